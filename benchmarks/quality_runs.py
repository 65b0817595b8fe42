"""One run of `benchmarks.quality`: trained or gone on with in its workdir, then its raw line.

Hyperparameters are chosen with part=validation, each query's last row but one. part=test is measured once, with the
recipe as it stands, and trains on all but the last row, as the published figures do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.negative_datasets import shared
from benchmarks.quality_curve import Curve, WatchedStack, Weights, points
from benchmarks.quality_recipes import Recipe
from retrieval_contract.config import RunConfig
from retrieval_contract.config.base import Settings
from retrieval_contract.config.run import PLACES
from retrieval_contract.data.batches import TrainingBatches
from retrieval_contract.data.prepare import Part, PreparedData, prepare
from retrieval_contract.evaluation.report import Report
from retrieval_contract.runs.opened import evaluate_encoders
from retrieval_contract.runs.training import train_run
from retrieval_contract.runs.workdir import Workdir
from retrieval_contract.stack import Stack

NAME = "quality"
REPORTED = ("hit_rate@10", "ndcg@10", "hit_rate@50", "ndcg@50", "mrr", "coverage@10")
"""Metrics that a line holds; recall equals the hit rate, as a query has one held-out candidate."""
CURVE_METRICS = ("hit_rate@10", "ndcg@10", "hit_rate@50")
DIGITS = 6
ENDS = ("value", "low", "high")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is asked for."""

    recipe: Recipe
    stack: Stack
    seed: int
    part: Part = "test"
    settings: tuple[str, ...] = ()
    """Settings over the recipe's own, for tuning."""
    curve_epochs: int = 5
    """Epochs between points of the validation curve."""
    matmul: str = "highest"
    """What the stack multiplies float32 with, as the line says it."""
    baselines: bool = True
    """Measure them too; they are the same for every seed, and EASE on a large catalogue takes minutes."""

    def config(self) -> RunConfig:
        """The run: for validation without baselines and intervals, for test with nothing held out but the test rows."""
        if self.part == "validation":
            asked = ["evaluation.part=validation", "evaluation.bootstrap_samples=1"]
        else:
            asked = ["split.validation_fraction=0.0"]
        if self.part == "validation" or not self.baselines:
            asked.append("evaluation.baselines=[]")
        return self.recipe.config(seed=self.seed, settings=(*self.settings, *asked))

    def workdir(self, runs: Path) -> Workdir:
        """Its folder among all runs."""
        seed = f"{self.part}_seed_{self.seed}"
        return Workdir(runs / self.recipe.dataset / self.recipe.name / self.stack.name / seed)


def run(job: Job, workdir: Workdir, results: Path, *, resume: bool, overwrite: bool) -> Mapping[str, Any]:
    """Train, or go on, and write the raw line.

    Args:
        job: what to train.
        workdir: of this run alone; checkpoints, the validation curve and weights lie there.
        results: folder of the raw lines.
        resume: go on from the newest checkpoint; a run that was done is only measured again.
        overwrite: begin anew.

    Returns:
        The line.

    Raises:
        UserError: the data or a setting is refused, or the workdir holds another run.
        RunError: stopped, or the loss is not finite.
    """
    job.recipe.check()
    config = job.config()
    prepared = prepare(config)
    curve = _curve(job, config, prepared, workdir)
    report = train_run(WatchedStack(job.stack, curve), config, workdir, resume=resume, overwrite=overwrite)
    assert report is not None, "one process"
    made = _line(job, config, prepared, report, points(_curve_path(workdir)))
    record.append(results / f"{NAME}.jsonl", [made])
    return made


def validation_config(config: RunConfig) -> RunConfig:
    """The same run as it is measured on the way: validation rows, no baselines, no intervals."""
    changes = {"part": "validation", "baselines": (), "bootstrap_samples": 1}
    return config.model_copy(update={"evaluation": config.evaluation.model_copy(update=changes)})


def settings_digest(config: RunConfig) -> str:
    """SHA-256 of what a run has set unlike the defaults, baselines apart, so that the seeds of a recipe share it.

    `RunConfig.digest` says more than that: the seed, and every field that there is, so that a new one with a default
    would part runs that are the same.
    """
    chosen = _chosen(config.model_copy(update={"seed": 0}))
    for room, field in (*PLACES, ("evaluation", "baselines")):
        chosen.get(room, {}).pop(field, None)
    return record.digest(chosen)


def _chosen(value: Any) -> Any:
    """Fields unlike their defaults, and kinds, which say whose fields these are."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_chosen(part) for part in value]
    if not isinstance(value, Settings):
        return value
    fields = {name: (getattr(value, name), field) for name, field in type(value).model_fields.items()}
    return {
        name: _chosen(own)
        for name, (own, field) in fields.items()
        if name == "kind" or own != field.get_default(call_default_factory=True, validated_data={})
    }


def _curve(job: Job, config: RunConfig, prepared: PreparedData, workdir: Workdir) -> Curve:
    asked = validation_config(config)

    def measure(weights: Weights) -> dict[str, float]:
        if not prepared.split.validation.size:
            return {}
        encoders = job.stack.encoders(asked, prepared.features.sizes, weights)
        metrics = evaluate_encoders(asked, prepared, encoders).tree["metrics"]
        return {name: metrics[name]["value"] for name in CURVE_METRICS}

    steps_per_epoch = TrainingBatches(prepared, config).steps_per_epoch
    # The last step is always a point, as the number of epochs is a multiple or the curve has one point.
    every = job.curve_epochs if config.training.epochs % job.curve_epochs == 0 else config.training.epochs
    return Curve(_curve_path(workdir), measure, every_steps=every * steps_per_epoch)


def _curve_path(workdir: Workdir) -> Path:
    return workdir.path / "curve.jsonl"


def _line(
    job: Job, config: RunConfig, prepared: PreparedData, report: Report, curve: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    tree = report.tree
    last = curve[-1]
    settings = {
        "stack": job.stack.name,
        "dataset": job.recipe.dataset,
        "recipe": job.recipe.name,
        "part": job.part,
        "matmul": job.matmul,
        "epochs": config.training.epochs,
        "config": settings_digest(config),
        **({"settings": list(job.settings)} if job.settings else {}),
    }
    times = record.Times(wall=[last["seconds"]], cpu=[last["cpu_seconds"]])
    case = f"{job.recipe.dataset}, {job.recipe.name}, {job.part}"
    figures = {
        "metrics": _reported(tree["metrics"]),
        "baselines": {name: _reported(row) for name, row in tree["baselines"].items()},
        "curve": [{name: value for name, value in point.items() if name != "cpu_seconds"} for point in curve],
        "num_queries": tree["num_queries"],
        "num_candidates": tree["num_candidates"],
        "num_train_positives": len(prepared.train_positives),
        "exclude_seen": tree["exclude_seen"],
        "notes": [note.replace(f"{shared()}/", "") for note in tree["notes"]],
    }
    return record.line(NAME, case, times, settings=settings, seed=job.seed, **figures)


def _reported(row: Mapping[str, Mapping[str, float | None]]) -> dict[str, dict[str, float | None]]:
    return {name: {end: _rounded(row[name][end]) for end in ENDS} for name in REPORTED}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)
