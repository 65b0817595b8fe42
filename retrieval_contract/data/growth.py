"""Vocabularies that grow with new data, for a warm start: every old value keeps its row."""

from collections.abc import Callable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from retrieval_contract.arrays import Entities, Interactions, Split
from retrieval_contract.config import (
    AffinityFeature,
    Feature,
    HistoryFeature,
    LookupFeature,
    RunConfig,
    Side,
)
from retrieval_contract.data.features import FittedFeatures, complete
from retrieval_contract.data.fitted import FittedFeature
from retrieval_contract.data.fitting import fit_vocabulary, places_of
from retrieval_contract.data.train_tables import TrainTables


def extended(
    fitted: FittedFeatures,
    config: RunConfig,
    interactions: Interactions,
    queries: Entities,
    candidates: Entities,
    split: Split,
) -> FittedFeatures:
    """Append the values that new data holds often enough to the vocabularies of an old fit.

    New values stand behind the old ones, by falling count of new train positives, then by code points. No vocabulary
    grows beyond its `top`, the places of a one-hot, or those of an affinity over it: what has no room stays unknown.
    Hashes, buckets, quantiles, scales and reference times are the old fit's; a table that is shared grows once.

    Args:
        fitted: the old fit.
        config: the run; its features are those of the old fit.
        interactions: all rows of the new data.
        queries: all queries of the new data.
        candidates: all candidates of the new data.
        split: which rows of the new data train.

    Returns:
        Features whose vocabularies begin with the old ones.

    Raises:
        UserError: the features are not the config's, or a column is absent or of another type.
    """
    fitted.check_fits(config)
    grow = _grower(fitted, TrainTables(config, interactions, queries, candidates, split), _affinity_places(config))
    candidate = tuple(grow("candidate", spec) for spec in config.candidate.features)
    return complete(config, candidate, grow)


def _grower(
    fitted: FittedFeatures, tables: TrainTables, affinity_places: Mapping[str, int]
) -> Callable[[Side, Feature], FittedFeature]:
    def grow(side: Side, spec: Feature) -> FittedFeature:
        old = fitted.feature(side, spec.name)
        if old.values is None:
            return old
        assert isinstance(spec, LookupFeature | HistoryFeature)
        bounds = [places_of(spec), getattr(spec, "top", None)]
        bounds += [affinity_places.get(spec.name)] if side == "candidate" else []
        return old.model_copy(update={"values": _with_new(old.values, _found(tables, side, spec), bounds)})

    return grow


def _found(tables: TrainTables, side: Side, spec: LookupFeature | HistoryFeature) -> tuple[str, ...]:
    """Values that the new train rows hold often enough, `top` not asked."""
    every = spec if isinstance(spec, HistoryFeature) else spec.model_copy(update={"top": None})
    return fit_vocabulary(every, *tables.of(side, spec)).values


def _with_new(old: tuple[str, ...], found: tuple[str, ...], bounds: list[int | None]) -> tuple[str, ...]:
    values = pa.array(found, pa.string())
    new = values.filter(pc.invert(pc.is_in(values, value_set=pa.array(old, pa.string()))))
    room = [max(bound - len(old), 0) for bound in bounds if bound is not None]
    return (*old, *new.slice(0, min(room, default=None)).to_pylist())


def _affinity_places(config: RunConfig) -> dict[str, int]:
    """The fewest places that an affinity has, by the candidate feature that it is of."""
    places: dict[str, int] = {}
    for spec in config.query.features:
        if isinstance(spec, AffinityFeature):
            places[spec.of] = min(spec.width, places.get(spec.of, spec.width))
    return places
