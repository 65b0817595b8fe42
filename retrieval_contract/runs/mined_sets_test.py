"""Mined sets of a run: when they are found, which stay, and what a resumed run does with them."""

import numpy as np
import pytest

from retrieval_contract.errors import UserError
from retrieval_contract.runs.checkpoints import checkpoint_paths
from retrieval_contract.runs.planted import PlantedStack, planted_run
from retrieval_contract.runs.training import train_run
from retrieval_contract.runs.workdir import Workdir
from retrieval_contract.weights.archive import read_arrays, write_arrays

STEPS = 12
"""Steps of an epoch of the small run below."""


class KilledError(Exception):
    """Stands for kill -9: nothing is saved on the way out."""


def config(**changes):
    mined = {"per_example": 1, "hard_fraction": 0.5, "first_rank": 3, "last_rank": 8, **changes}
    return planted_run(
        negatives={"mined": mined, "sampled": 5, "mask_known_positives": True},
        training={"epochs": 6, "batch_size": 64, "checkpoint_every_steps": 5},
    )


def killed_at(step):
    def on_step(now):
        if now == step:
            raise KilledError

    return PlantedStack(on_step=on_step)


def train(folder, run=None, *, stack=None, resume=False, overwrite=False):
    stack = stack or PlantedStack()
    train_run(stack, run or config(), Workdir(folder), resume=resume, overwrite=overwrite)
    return stack


def saved_epochs(folder):
    return sorted(int(path.stem.removeprefix("epoch_")) for path in (folder / "negatives").iterdir())


def files(folder):
    last = checkpoint_paths(folder / "checkpoints")[-1]
    return {path.name: path.read_bytes() for path in (last, folder / "weights.safetensors", folder / "metrics.json")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole") / "w"
    stack = train(folder)
    steps = int(stack.trainers[0].state()["step"])
    assert steps == 6 * STEPS, f"the tests below count on {STEPS} steps an epoch, not {steps / 6}"
    assert stack.num_encoders == 1 + 5 + 1, "one rehearsal, five minings, one evaluation"
    return folder


def test_every_epoch_but_the_first_mines_and_the_newest_two_sets_stay(whole):
    assert saved_epochs(whole) == [4, 5]
    arrays, metadata = read_arrays(whole / "negatives" / "epoch_00005.safetensors")
    assert metadata["epoch"] == "5" and metadata["config_digest"] == config().digest()
    assert arrays["rows"].shape == (40, 6) and arrays["rows"].max() >= 0


def test_mining_every_two_epochs(tmp_path):
    stack = train(tmp_path / "w", config(every_epochs=2))
    assert saved_epochs(tmp_path / "w") == [2, 4]
    assert stack.num_encoders == 1 + 2 + 1


def test_mined_columns_change_what_is_learned(whole, tmp_path):
    train(tmp_path / "w", config(first_rank=20, last_rank=25))
    assert files(tmp_path / "w")["weights.safetensors"] != files(whole)["weights.safetensors"]


# Steps of an epoch that mined: its start before any step, its middle, its last; and one before any mining.
@pytest.mark.parametrize("step", [7, STEPS, STEPS + 7, 3 * STEPS, 3 * STEPS + 11, 5 * STEPS + 6])
def test_a_killed_run_resumes_to_the_same_bytes(whole, tmp_path, step):
    with pytest.raises(KilledError):
        train(tmp_path / "w", stack=killed_at(step))
    train(tmp_path / "w", resume=True)
    assert files(tmp_path / "w") == files(whole)
    for epoch in (4, 5):
        name = f"negatives/epoch_{epoch:05d}.safetensors"
        assert (tmp_path / "w" / name).read_bytes() == (whole / name).read_bytes()


def test_a_resumed_epoch_is_not_mined_again(whole, tmp_path):
    with pytest.raises(KilledError):
        train(tmp_path / "w", stack=killed_at(3 * STEPS + 7))
    stack = train(tmp_path / "w", resume=True)
    assert stack.num_encoders == 2 + 1, "epochs 4 and 5, and the evaluation"


def test_a_mining_epoch_killed_at_its_start_reads_what_it_found(whole, tmp_path):
    with pytest.raises(KilledError):
        train(tmp_path / "w", stack=killed_at(3 * STEPS))
    assert saved_epochs(tmp_path / "w") == [2, 3]
    stack = train(tmp_path / "w", resume=True)
    assert stack.num_encoders == 2 + 1
    assert files(tmp_path / "w") == files(whole)


@pytest.mark.parametrize("fault", ["missing", "damaged", "of other weights"])
def test_at_the_start_of_a_mining_epoch_a_set_that_cannot_be_used_is_mined_anew(whole, tmp_path, fault):
    with pytest.raises(KilledError):
        train(tmp_path / "w", stack=killed_at(3 * STEPS))
    spoil(tmp_path / "w" / "negatives" / "epoch_00003.safetensors", fault)
    train(tmp_path / "w", resume=True)
    assert files(tmp_path / "w") == files(whole)


@pytest.mark.parametrize("fault", ["missing", "damaged", "of another run"])
def test_inside_an_epoch_a_set_that_cannot_be_used_ends_the_run(tmp_path, fault):
    with pytest.raises(KilledError):
        train(tmp_path / "w", stack=killed_at(3 * STEPS + 7))
    spoil(tmp_path / "w" / "negatives" / "epoch_00003.safetensors", fault)
    before = {path: path.read_bytes() for path in (tmp_path / "w" / "checkpoints").iterdir()}
    with pytest.raises(UserError, match=r"mined for epoch 4.*epoch_00003\.safetensors.*train again with --overwrite"):
        train(tmp_path / "w", resume=True)
    assert {path: path.read_bytes() for path in (tmp_path / "w" / "checkpoints").iterdir()} == before


def spoil(path, fault):
    if fault == "missing":
        path.unlink()
    elif fault == "damaged":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        arrays, metadata = read_arrays(path)
        kept = {name: text for name, text in metadata.items() if name not in ("digest", "sha256")}
        changed = {"weights_digest": "0"} if fault == "of other weights" else {"run_digest": "0"}
        write_arrays(path, {"rows": np.full_like(arrays["rows"], 1)}, {**kept, **changed})


def test_going_back_to_an_older_checkpoint_repeats_the_run_and_drops_sets_of_later_epochs(whole, tmp_path):
    with pytest.raises(KilledError):
        train(tmp_path / "w", stack=killed_at(4 * STEPS + 1))
    newest, older = checkpoint_paths(tmp_path / "w" / "checkpoints")[::-1][:2]
    assert newest.name == "step_000000048.safetensors" and older.name == "step_000000045.safetensors"
    newest.unlink()
    # Left over from before the run was taken back.
    (tmp_path / "w" / "negatives" / "epoch_00099.safetensors").write_bytes(b"")
    train(tmp_path / "w", resume=True)
    assert files(tmp_path / "w") == files(whole)
    assert saved_epochs(tmp_path / "w") == [4, 5]


def test_more_epochs_go_on_with_the_set_that_is_there(tmp_path):
    def run(epochs):
        rooms = config(every_epochs=4).model_dump()
        training = {**rooms["training"], "epochs": epochs}
        return planted_run(negatives=rooms["negatives"], training=training, optimizer={"schedule": "constant"})

    train(tmp_path / "more", run(5))
    train(tmp_path / "more", run(6), resume=True)
    train(tmp_path / "at_once", run(6))
    assert files(tmp_path / "more")["weights.safetensors"] == files(tmp_path / "at_once")["weights.safetensors"]


def test_overwrite_removes_the_sets(whole, tmp_path):
    folder = tmp_path / "w"
    train(folder)
    train(folder, planted_run(), overwrite=True)
    assert not (folder / "negatives").exists()


def test_an_index_that_cannot_be_built_is_refused_before_training(tmp_path):
    class PickyIndex(PlantedStack.indexes["exact"]):
        backend = "faiss"

        def _build(self, values_ND):
            raise UserError("too few candidates for this factory")

    stack = PlantedStack()
    stack.indexes = {**stack.indexes, "faiss": PickyIndex}
    run = config().model_copy(update={"index": config().index.model_copy(update={"backend": "faiss"})})
    with pytest.raises(UserError, match="too few candidates"):
        train(tmp_path / "w", run, stack=stack)
    assert not (tmp_path / "w").exists()
