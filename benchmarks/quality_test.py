"""A run can be stopped and gone on with, measures what it says, and the page says what the lines hold."""

import json

import pytest

from benchmarks import planted, quality, quality_recipes, quality_runs, record
from benchmarks.quality_curve import Curve, points
from benchmarks.quality_recipes import RECIPES, Recipe
from benchmarks.quality_report import outcomes, write_report
from benchmarks.quality_runs import Job, run, settings_digest
from retrieval_contract.config import RunConfig
from retrieval_contract.errors import RunError, UserError
from retrieval_contract.presets import PRESETS
from retrieval_contract.stack import StepResult


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe on planted files, registered as a preset."""
    folder = tmp_path / "shared"
    dataset = planted.write_dataset(folder, name="amazon-beauty")
    monkeypatch.setenv("TWO_TOWER_SHARED", str(folder))
    (folder / "data" / "amazon-beauty" / "interactions.parquet").write_bytes(b"looked for, not read")

    def planted_run():
        config = dataset.config()
        training = config.training.model_copy(update={"epochs": 2, "checkpoint_every_steps": 1})
        evaluation = config.evaluation.model_copy(
            update={"part": "test", "cutoffs": (10, 50), "baselines": ("popularity",), "bootstrap_samples": 20}
        )
        return config.model_copy(update={"training": training, "evaluation": evaluation})

    monkeypatch.setitem(PRESETS, "planted_run", planted_run)
    targets = {"hit_rate@10": 0.5}
    found = Recipe(name="planted_run", title="Planted", dataset="amazon-beauty", targets=targets, target_source="me")
    for module in (quality_recipes, quality):
        monkeypatch.setattr(module, "RECIPES", {**RECIPES, "planted_run": found})
    return found


class _Stopping:
    """The stack, whose trainer stops with an error behind a step."""

    def __init__(self, stack, behind):
        self._stack, self._behind, self.name, self.indexes = stack, behind, stack.name, stack.indexes

    def __getattr__(self, name):
        return getattr(self._stack, name)

    def trainer(self, *arguments):
        inner, behind = self._stack.trainer(*arguments), self._behind

        class Trainer:
            def step(self, batches, *, learning_rate):
                if int(inner.state()["step"]) == behind:
                    raise RunError("stopped")
                return inner.step(batches, learning_rate=learning_rate)

            def state(self):
                return inner.state()

        return Trainer()


def test_stopped_run_goes_on_to_the_same_line(recipe, tmp_path):
    from torch_reference.stack import STACK

    lines = []
    for name, stop in (("whole", None), ("stopped", 8)):
        results = tmp_path / name
        job = Job(recipe=recipe, stack=STACK, seed=3, curve_epochs=1)
        if stop is not None:
            stopping = Job(recipe=recipe, stack=_Stopping(STACK, stop), seed=3, curve_epochs=1)
            with pytest.raises(RunError, match="stopped"):
                run(stopping, job.workdir(tmp_path / name), results, resume=False, overwrite=False)
        lines.append(run(job, job.workdir(tmp_path / name), results, resume=stop is not None, overwrite=False))
        assert record.read(results / "quality.jsonl") == [json.loads(json.dumps(lines[-1]))]
    whole, stopped = lines
    assert whole["metrics"] == stopped["metrics"] and whole["digest"] == stopped["digest"]
    first, second = (point["step"] for point in whole["curve"])
    assert second == 2 * first
    assert [point["metrics"] for point in whole["curve"]] == [point["metrics"] for point in stopped["curve"]]
    assert whole["metrics"]["hit_rate@10"]["low"] <= whole["metrics"]["hit_rate@10"]["value"]
    assert set(whole["baselines"]) == {"popularity"} and whole["seed"] == 3
    bare = Job(recipe=recipe, stack=STACK, seed=3, baselines=False).config()
    assert bare.evaluation.baselines == () and settings_digest(bare) == whole["settings"]["config"]


def test_validation_run_knows_nothing_of_test(recipe, tmp_path):
    from torch_reference.stack import STACK

    job = Job(
        recipe=recipe, stack=STACK, seed=0, part="validation", curve_epochs=2, settings=("model.normalize=false",)
    )
    line = run(job, job.workdir(tmp_path), tmp_path, resume=False, overwrite=False)
    assert job.config().evaluation.part == "validation" and line["settings"]["part"] == "validation"
    assert line["baselines"] == {} and line["settings"]["settings"] == ["model.normalize=false"]
    # Both are the validation part at the last step.
    assert line["curve"][-1]["metrics"]["hit_rate@10"] == line["metrics"]["hit_rate@10"]["value"]
    assert outcomes([line]) == []


def test_digest_is_of_what_is_set_unlike_the_defaults():
    recipe = RECIPES["movielens_1m_mind"]
    digests = {settings_digest(recipe.config(seed=seed)) for seed in (0, 5)}
    assert len(digests) == 1
    elsewhere = ["evaluation.baselines=[]", "training.device=cpu", "training.checkpoint_every_steps=7"]
    digests.add(settings_digest(recipe.config(seed=0, settings=elsewhere)))
    assert len(digests) == 1, "where a run runs is no part of what it is, nor what stands beside it"
    attention, gru = ({"kind": kind} for kind in ("attention", "gru"))
    for changed in (["training.epochs=6"], ["loss.temperature=0.08"], ["optimizer.kind=adam"]):
        digests.add(settings_digest(recipe.config(seed=0, settings=changed)))
    (history,) = recipe.config(seed=0).query.features
    for pooling in (attention, gru):
        config = recipe.config(seed=0)
        tree = {**config.model_dump(), "query": {"features": ({**history.model_dump(), "pooling": pooling},)}}
        digests.add(settings_digest(RunConfig.model_validate(tree)))
    assert len(digests) == 6, "poolings that are all defaults differ in their kind"


def test_curve_forgets_what_lies_behind_the_step_gone_on_from(tmp_path):
    measured = []

    def measure(weights):
        measured.append(weights)
        return {"m": 0.5}

    curve = Curve(tmp_path / "curve.jsonl", measure, every_steps=2)
    curve.begin(0)
    for step in range(1, 6):
        curve.add(StepResult(loss=float(step), gradient_norm=1.0, temperature=1.0), lambda: {"step": 1})
    assert [(point["step"], point["loss"]) for point in points(tmp_path / "curve.jsonl")] == [(2, 1.5), (4, 3.5)]
    again = Curve(tmp_path / "curve.jsonl", measure, every_steps=2)
    again.begin(3)
    again.add(StepResult(loss=9.0, gradient_norm=1.0, temperature=1.0), lambda: {"step": 2})
    assert [(point["step"], point["loss"]) for point in points(tmp_path / "curve.jsonl")] == [(2, 1.5), (4, 9.0)]
    assert len(measured) == 3 and points(tmp_path / "none.jsonl") == []


def _line(recipe, seed, value, **settings):
    told = {"stack": "torch_reference", "dataset": RECIPES[recipe].dataset, "recipe": recipe, "part": "test"}
    told |= {"matmul": "highest", "epochs": 30, "config": "c", **settings}
    metric = {"value": value, "low": value - 0.01, "high": value + 0.01}
    point = {"step": 5, "loss": 7.0, "seconds": 60.0, "metrics": {"hit_rate@10": 0.1, "hit_rate@50": 0.2}}
    return record.line(
        "quality",
        "case",
        record.Times(wall=[1_800.0], cpu=[3_000.0]),
        settings=told,
        seed=seed,
        metrics=dict.fromkeys(quality_runs.REPORTED, metric),
        baselines={"popularity": dict.fromkeys(quality_runs.REPORTED, metric)},
        curve=[point, {**point, "seconds": 120.0}],
        num_queries=100,
        num_candidates=1_000,
        num_train_positives=10_000,
        exclude_seen="sasrec" in recipe,
        notes=[],
    )


def test_page_and_json_are_of_the_newest_configuration(tmp_path):
    lines = [
        _line("movielens_1m_sasrec", 2, 0.9, config="old"),
        _line("movielens_1m_sasrec", 0, 0.1),
        _line("movielens_1m_sasrec", 1, 0.32),
        # The same seed again: the later line counts.
        _line("movielens_1m_sasrec", 0, 0.3),
        _line("movielens_1m_dssm", 0, 0.4, config="old"),
        # Another seed's line, without baselines: those of the line before stand in the table.
        {**_line("movielens_1m_dssm", 0, 0.4), "baselines": {}},
        {**_line("amazon_beauty_sasrec", 0, 0.5, part="validation")},
    ]
    record.append(tmp_path / "quality.jsonl", lines)
    page, found = write_report(tmp_path)
    assert found == {
        "ml-1m": {"hit_rate@10": 0.31, "ndcg@10": 0.31},
        "amazon-beauty": {"hit_rate@10": None, "ndcg@10": None},
    }
    assert "**0.3100** (0.3000 to 0.3200; 0.3000 / 0.3200)" in page
    assert "HR@10 0.316: -0.0060" in page and "HR@50 0.355: +0.0450 (DeepMatch)" in page
    assert "Amazon Beauty" not in page and page.count("*popularity*") == 2
    assert "| 0, 1 (fewer than 3) |" in page
    assert (tmp_path / "quality.md").read_text() == page
    before = (tmp_path / "quality.svg").read_bytes()
    write_report(tmp_path)
    assert (tmp_path / "quality.svg").read_bytes() == before and len(before) > 5_000


def test_command_line_says_what_is_wrong(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TWO_TOWER_SHARED", str(tmp_path / "nothing"))
    for words, said in (
        (["--report", f"--results={tmp_path}"], "cannot read"),
        (["--recipe=none"], "movielens_1m_sasrec (ml-1m)"),
        (["--recipe=movielens_1m_sasrec", "--dataset=amazon-beauty"], "no recipe"),
        (["--recipe=movielens_1m_sasrec"], "set TWO_TOWER_SHARED"),
    ):
        with pytest.raises(SystemExit) as stop:
            quality.main(words)
        assert stop.value.code == 2 and said in capsys.readouterr().err
    (tmp_path / "quality.jsonl").write_text("")
    with pytest.raises(UserError, match="no test line"):
        write_report(tmp_path)


def test_every_recipe_is_a_preset_that_ranks_the_whole_catalogue():
    for recipe in RECIPES.values():
        config = recipe.config(seed=7, settings=("training.epochs=3",))
        assert (config.seed, config.training.epochs, config.name) == (7, 3, recipe.name)
        assert config.split.kind == "leave_one_out" and config.evaluation.known == "train_and_validation"
        assert config.evaluation.exclude_seen == recipe.headline
        assert {10, 50} <= set(config.evaluation.cutoffs)
        # A file of candidates is the catalogue: Beauty's names just the 12,101 of the interactions, MovieLens's more.
        assert config.source.candidates == ("items.parquet" if recipe.dataset == "amazon-beauty" else None)
