"""A run that begins where another ended: planted data of two tastes, in which new films have their genre to show."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrieval_contract import config as c
from retrieval_contract.data.prepare import prepare
from retrieval_contract.errors import UserError
from retrieval_contract.runs.checkpoints import checkpoint_paths, weights_of
from retrieval_contract.runs.planted import PlantedStack
from retrieval_contract.runs.training import train_run
from retrieval_contract.runs.warm_start import WarmStart
from retrieval_contract.runs.workdir import Workdir
from retrieval_contract.weights.archive import read_arrays, write_weights
from retrieval_contract.weights.names import parameter_table

OLD_FILMS, NEW_FILMS = 30, 36
GENRES = ("war", "love")
CANDIDATES, GENRE_TABLE = "candidate.embedding.candidate_id", "candidate.embedding.genres"


def write_data(folder, num_films, *, genre_of=lambda film: film % 2):
    """Films of two genres, viewers who meet one genre only; films beyond the first thirty are new."""
    folder.mkdir()
    films = [f"f{film:02d}" for film in range(num_films)]
    genres = [[GENRES[genre_of(film)]] for film in range(num_films)]
    pq.write_table(pa.table({"candidate_id": films, "genres": genres}), folder / "films.parquet")
    rows = [(f"v{viewer}", films[film]) for film in range(num_films) for viewer in range(8) if viewer % 2 == film % 2]
    # In an order in which every part of the split holds every film.
    rows = [rows[place] for place in np.random.default_rng(0).permutation(len(rows))]
    times = pa.array(range(len(rows)), pa.int64())
    table = pa.table({"query_id": [v for v, _ in rows], "candidate_id": [f for _, f in rows], "timestamp": times})
    pq.write_table(table, folder / "rows.parquet")
    return folder


def run_on(folder, **changes):
    tree = {
        "source": c.FilesSource(
            kind="files",
            data_dir=str(folder),
            interactions="rows.parquet",
            candidates="films.parquet",
            columns={"query_id": "query_id", "candidate_id": "candidate_id", "timestamp": "timestamp"},
        ),
        "split": c.SplitRule(kind="random", validation_fraction=0.0, test_fraction=0.2),
        "query": c.Tower(features=(c.IdFeature(name="query_id", width=4),)),
        "candidate": c.Tower(
            features=(c.IdFeature(name="candidate_id", width=4), c.MultivalentFeature(name="genres", width=4)),
            combine="sum",
        ),
        "model": c.Model(dim=4),
        "training": c.Training(epochs=1, batch_size=16),
        "evaluation": c.Evaluation(bootstrap_samples=10, baselines=("popularity",), cutoffs=(1, 5)),
    }
    return c.RunConfig(**{**tree, **changes})


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """A finished run whose tables are planted: a film's row points to its taste, a viewer's too."""
    base = tmp_path_factory.mktemp("old")
    config = run_on(write_data(base / "data", OLD_FILMS), model=c.Model(dim=4, candidate_bias=True))
    folder = base / "run"
    train_run(PlantedStack(), config, Workdir(folder), resume=False, overwrite=False)
    prepared = prepare(config)
    weights = {
        name: np.random.default_rng(len(name)).normal(0, 0.1, parameter.shape).astype(np.float32)
        for name, parameter in parameter_table(config, prepared.features.sizes).items()
    }
    for side, name in (("query", "query_id"), ("candidate", "candidate_id")):
        for row, value in enumerate(prepared.features.feature(side, name).values, start=2):
            weights[f"{side}.embedding.{name}"][row, int(value[1:]) % 2] += 3
    # The unknown film is liked by nobody.
    weights[CANDIDATES][1] -= 1
    write_weights(Workdir(folder).weights, weights, config_digest=config.digest())
    return folder, config, weights


@pytest.fixture(scope="module")
def new_data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("new") / "data", NEW_FILMS)


def like(config, folder, **changes):
    """The old run's configuration on other data."""
    source = config.source.model_copy(update={"data_dir": str(folder)})
    return c.RunConfig.model_validate({**config.model_dump(), "source": source.model_dump(), **changes})


def started(old, new_data):
    folder, config, _ = old
    config = like(config, new_data)
    start = WarmStart.of(folder, config)
    prepared = start.prepare(config)
    return prepared, weights_of(start.first_state(config, prepared)), start


def test_old_rows_keep_their_bytes_and_new_ones_stand_behind(old, new_data):
    prepared, weights, start = started(old, new_data)
    films = prepared.features.feature("candidate", "candidate_id").values
    assert len(films) == NEW_FILMS and set(films[OLD_FILMS:]) == {f"f{film}" for film in range(30, 36)}
    assert films[:OLD_FILMS] == prepare(old[1]).features.feature("candidate", "candidate_id").values
    for name, array in old[2].items():
        assert weights[name][: len(array)].tobytes() == array.tobytes(), name
    assert [name for name in weights if len(weights[name]) > len(old[2][name])] == [CANDIDATES, "candidate.bias"]
    assert (weights["candidate.bias"][-6:] == weights["candidate.bias"][1]).all()
    assert start.note(prepared).endswith("new rows: candidate candidate_id +6")


def test_new_films_stand_among_those_of_their_genre_and_are_recommended_before_any_step(old, new_data):
    prepared, weights, _ = started(old, new_data)
    feature = prepared.features.feature("candidate", "candidate_id")
    rows = {value: row for row, value in enumerate(feature.values, start=2)}
    viewers = {value: row for row, value in enumerate(prepared.features.feature("query", "query_id").values, start=2)}
    for film in range(OLD_FILMS, NEW_FILMS):
        vector = weights[CANDIDATES][rows[f"f{film}"]]
        assert vector[film % 2] > 2.5 and abs(vector[1 - film % 2]) < 0.5
        fan, other = (weights["query.embedding.query_id"][viewers[f"v{viewer}"]] for viewer in (film % 2, 1 - film % 2))
        # Better than every old film of the other genre for a viewer of its own, better than none for others.
        scores = {name: weights[CANDIDATES][row] for name, row in rows.items() if int(name[1:]) % 2 != film % 2}
        assert vector @ fan > max(array @ fan for array in scores.values())
        assert vector @ other < min(array @ other for name, array in scores.items() if int(name[1:]) < OLD_FILMS)
        assert weights[CANDIDATES][1] @ fan < 0, "the unknown row would have been a bad start"


def test_content_decides_and_not_the_id(old, tmp_path):
    """The same new films under the other genre go to the other side."""
    data = write_data(tmp_path / "data", NEW_FILMS, genre_of=lambda film: (film + (film >= OLD_FILMS)) % 2)
    prepared, weights, _ = started(old, data)
    values = prepared.features.feature("candidate", "candidate_id").values
    for film in range(OLD_FILMS, NEW_FILMS):
        assert weights[CANDIDATES][values.index(f"f{film}") + 2][1 - film % 2] > 2.5


def test_without_content_new_films_begin_unknown(tmp_path, new_data):
    ids_only = {"candidate": c.Tower(features=(c.IdFeature(name="candidate_id", width=4),))}
    config = run_on(write_data(tmp_path / "data", OLD_FILMS), **ids_only)
    train_run(PlantedStack(), config, Workdir(tmp_path / "run"), resume=False, overwrite=False)
    start = WarmStart.of(tmp_path / "run", like(config, new_data))
    prepared = start.prepare(like(config, new_data))
    table = weights_of(start.first_state(like(config, new_data), prepared))[CANDIDATES]
    assert len(table) == NEW_FILMS + 2 and (table[-6:] == table[1]).all()


def test_a_warm_started_run_begins_with_these_weights_and_resumes_without_the_old_one(old, new_data, tmp_path, capsys):
    config = like(old[1], new_data, training={"epochs": 2, "batch_size": 16})
    _, weights, _ = started(old, new_data)
    calls = []

    def stop(step):
        calls.append(step)
        if len(calls) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stack = PlantedStack(on_step=stop)
        train_run(stack, config, Workdir(tmp_path / "w"), resume=False, overwrite=False, warm_start=old[0])
    assert "warm start from" in capsys.readouterr().out
    first = weights_of(read_arrays(checkpoint_paths(tmp_path / "w" / "checkpoints")[0])[0])
    assert {name: array.tobytes() for name, array in first.items()} == {
        name: array.tobytes() for name, array in weights.items()
    }
    train_run(PlantedStack(), config, Workdir(tmp_path / "w"), resume=True, overwrite=False)
    train_run(PlantedStack(), config, Workdir(tmp_path / "again"), resume=False, overwrite=False, warm_start=old[0])
    for name in ("weights.safetensors", "features.json", "metrics.json"):
        assert (tmp_path / "w" / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    assert json.loads((tmp_path / "w" / "metrics.json").read_text())["num_candidates"] == NEW_FILMS


IDS = c.IdFeature(name="candidate_id", width=4)
SUMMED = c.Tower(features=(IDS, c.MultivalentFeature(name="genres", width=4, pooling="sum")), combine="sum")
DEEP = c.Tower(features=(c.IdFeature(name="query_id", width=4),), hidden_dims=(3,))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidate": SUMMED.model_dump()}, "'genres'.*pooling.*mean.*sum"),
        ({"query": DEEP.model_dump()}, r"query.hidden_dims is \(\) in the run to start from and \(3,\) here"),
        ({"model": {"dim": 4, "normalize": True, "candidate_bias": True}}, "model.normalize is False .* True"),
    ],
)
def test_other_features_or_towers_are_refused_with_both_values(old, new_data, tmp_path, changes, message):
    config = like(old[1], new_data, **changes)
    with pytest.raises(UserError, match=message) as refused:
        train_run(PlantedStack(), config, Workdir(tmp_path / "w"), resume=False, overwrite=False, warm_start=old[0])
    assert "--warm_start" in str(refused.value) and not (tmp_path / "w").exists()


def test_dropout_and_training_may_change(old, new_data):
    tree = old[1].candidate.model_dump() | {"feature_dropout": 0.5}
    WarmStart.of(old[0], like(old[1], new_data, candidate=tree, optimizer={"kind": "sgd"}))


@pytest.mark.parametrize("missing", ["config.yaml", "features.json", "weights.safetensors"])
def test_a_folder_that_is_no_finished_run_is_refused(old, new_data, tmp_path, missing):
    config = like(old[1], new_data)
    folder = tmp_path / "half"
    folder.mkdir()
    for name in {"config.yaml", "features.json", "weights.safetensors"} - {missing}:
        (folder / name).write_bytes((old[0] / name).read_bytes())
    with pytest.raises(UserError, match=f"no run to start from: {missing} is missing"):
        train_run(PlantedStack(), config, Workdir(tmp_path / "w"), resume=False, overwrite=False, warm_start=folder)


def test_resume_and_warm_start_and_the_run_itself_are_refused(old, new_data):
    config, flags = old[1], {"resume": True, "overwrite": False}
    with pytest.raises(UserError, match="--resume and --warm_start"):
        train_run(PlantedStack(), config, Workdir(old[0]), **flags, warm_start=old[0])
    with pytest.raises(UserError, match="from itself"):
        train_run(PlantedStack(), config, Workdir(old[0]), resume=False, overwrite=True, warm_start=old[0])
    assert (old[0] / "weights.safetensors").exists()
