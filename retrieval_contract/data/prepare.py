"""A configured run's data, made ready: entities, split, fitted features."""

from retrieval_contract.arrays import Int64Array, Interactions, Split
from retrieval_contract.config import RunConfig
from retrieval_contract.data.entities import build_entities
from retrieval_contract.data.features import FittedFeatures, fit_features
from retrieval_contract.data.prepared import Part, PreparedData
from retrieval_contract.data.sources import load
from retrieval_contract.data.sources.raw import RawData
from retrieval_contract.data.split import split_interactions
from retrieval_contract.errors import UserError

__all__ = ["Part", "PreparedData", "prepare", "prepare_raw"]


def prepare(config: RunConfig, *, features_json: str | None = None) -> PreparedData:
    """Load the configured source and make it ready for training and evaluation.

    The same config gives the same data whatever the run's seed: sources and splits are keyed by `split.seed`.

    Args:
        config: the run.
        features_json: state of fitted features (`FittedFeatures.to_json`); None fits them on the train positives.

    Raises:
        UserError: whatever is wrong with the source, its columns, the split, or features of another run.
    """
    return prepare_raw(load(config.source, seed=config.split.seed), config, features_json=features_json)


def prepare_raw(raw: RawData, config: RunConfig, *, features_json: str | None = None) -> PreparedData:
    """Do what `prepare` does with a source already read."""
    fitted = None if features_json is None else FittedFeatures.from_json(features_json)
    if fitted is not None:
        fitted.check_fits(config)
    if not raw.has_timestamps:
        _check_ages(config)
    interactions, queries, candidates = build_entities(raw, config.positives)
    assert raw.truth is None or raw.truth.candidate_ids == candidates.ids, "truth and table differ in order"
    split = split_interactions(interactions, config.split)
    _check_parts(interactions, split, config)
    features = fit_features(config, interactions, queries, candidates, split) if fitted is None else fitted
    return PreparedData(
        interactions=interactions,
        queries=queries,
        candidates=candidates,
        split=split,
        features=features,
        truth=raw.truth,
        has_timestamps=raw.has_timestamps,
        notes=raw.notes,
        known=config.evaluation.known,
        data_dir=config.source.data_dir,
    )


def _check_ages(config: RunConfig) -> None:
    """Refuse ages of items where times are only an order."""
    for history in config.query.histories:
        half_life = getattr(history.pooling, "half_life_days", None)
        if not history.age_buckets and half_life is None:
            continue
        setting = f"age_buckets={history.age_buckets}" if history.age_buckets else f"half_life_days={half_life}"
        raise UserError(
            f"history {history.name!r} has {setting}, and the interactions have no times, only an order",
            where="interactions",
            todo="map a column timestamp, or unset it",
        )


def _check_parts(interactions: Interactions, split: Split, config: RunConfig) -> None:
    """Make sure that there is something to train on and something to evaluate."""
    train = split.train[interactions.positive[split.train]]
    if len(train) < 2:
        raise UserError(
            f"{len(train)} train positives, and in-batch negatives need 2 or more",
            where=f"train part of {len(split.train):,} rows",
            todo="change the split or the rule of positives, or give more rows",
        )
    if not interactions.weights[train].any():
        raise UserError(
            f"all {len(train):,} train positives weigh 0",
            where=f"interactions, column {config.positives.weight_column}",
            todo="give some row a weight above 0",
        )
    part = config.evaluation.part
    held_out: Int64Array = getattr(split, part)
    if not interactions.positive[held_out].any():
        raise UserError(
            f"no positive to evaluate among {len(held_out):,} {part} rows",
            where="evaluation.part",
            todo="change the split, the rule of positives or evaluation.part",
        )
