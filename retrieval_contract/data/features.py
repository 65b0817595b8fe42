"""Columns of the entity tables as model inputs: fitted on train positives, saved whole as `features.json`.

Letters: E entities, M values of a multi-valent feature, L history length, V vocabulary rows.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import numpy as np
import pyarrow as pa
import pydantic
from pydantic import Field

from retrieval_contract.arrays import Entities, FeatureArrays, Float32Array, Int32Array, Int64Array, Interactions, Split
from retrieval_contract.config import Feature, RunConfig, Settings, Side
from retrieval_contract.data.columns import as_numbers, as_text, column_of, refuse_rows
from retrieval_contract.data.multivalent import Lists, lists_of
from retrieval_contract.data.vocabulary import Vocabulary
from retrieval_contract.errors import UserError
from retrieval_contract.weights.names import VocabularySizes

SIDES: tuple[Side, Side] = ("query", "candidate")
TABLES: Mapping[Side, str] = {"query": "queries", "candidate": "candidates"}
Finite = Annotated[float, Field(allow_inf_nan=False)]


class FittedFeature(Settings):
    """One input with what training rows taught about it."""

    name: str
    """The config's name of the feature."""
    kind: Literal["id", "categorical", "multivalent", "numeric", "history"]
    """The config's kind."""
    min_count: int
    """The config's least count that its vocabulary was fitted with."""
    max_length: int
    """The config's number of values kept (multivalent, history)."""
    values: tuple[str, ...] | None = None
    """The vocabulary in row order from row 2; none for a numeric feature."""
    mean: Finite = 0.0
    """Numeric: mean over train positives."""
    std: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Numeric: standard deviation over train positives (population form); 0 makes every value 0."""

    @pydantic.model_validator(mode="after")
    def _state_is_whole(self) -> Self:
        if (self.values is None) != (self.kind == "numeric"):
            needs = "needs a" if self.values is None else "has no"
            raise ValueError(f"feature {self.name!r}: kind {self.kind} {needs} vocabulary")
        if self.values is not None and len(set(self.values)) != len(self.values):
            raise ValueError(f"feature {self.name!r}: a value stands twice in the vocabulary")
        return self

    @property
    def vocabulary(self) -> Vocabulary:
        """The values with their rows; not for numeric features."""
        assert self.values is not None
        return Vocabulary(self.values)


class FittedFeatures(Settings):
    """All inputs of both towers, fitted: with the config and the weights, all that serving a run needs."""

    format: Literal[1] = 1
    """Version of this file's form."""
    query: tuple[FittedFeature, ...]
    """Inputs of the query tower, in the config's order."""
    candidate: tuple[FittedFeature, ...]
    """Inputs of the candidate tower, in the config's order."""

    @property
    def sizes(self) -> VocabularySizes:
        """Embedding rows V of each vocabulary, by side and feature."""
        return {
            side: {feature.name: feature.vocabulary.size for feature in self.of(side) if feature.values is not None}
            for side in SIDES
        }

    @property
    def histories(self) -> tuple[FittedFeature, ...]:
        """The query features of kind history: encoded per target, not per entity."""
        return tuple(feature for feature in self.query if feature.kind == "history")

    def of(self, side: Side) -> tuple[FittedFeature, ...]:
        """Inputs of one tower."""
        return self.query if side == "query" else self.candidate

    def to_json(self) -> str:
        """The whole state; equal states give equal bytes."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the state that `to_json` wrote.

        Raises:
            UserError: not such a text, cut short, or a state that is not whole.
        """
        try:
            return cls.model_validate_json(text)
        except pydantic.ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(step) for step in fault["loc"]) or "the whole text"
            todo = "use the features.json that the run wrote, or train again"
            what = f"not fitted features: {fault['msg']}"
            raise UserError(what, where=f"features.json, {place}", todo=todo) from None

    def check_fits(self, config: RunConfig) -> None:
        """Make sure that these features are the config's, so that weights are not read with another run's vocabulary.

        Raises:
            UserError: another set, order, kind, min_count or max_length of features; the first difference is named.
        """
        for side in SIDES:
            fitted = [_signature(feature) for feature in self.of(side)]
            wanted = [_signature(feature) for feature in getattr(config, side).features]
            for have, want in zip(fitted, wanted, strict=False):
                if have != want:
                    raise _other_run(f"{side} feature {_say(have)} where the config has {_say(want)}")
            if len(fitted) != len(wanted):
                raise _other_run(f"{len(fitted)} {side} features where the config has {len(wanted)}")

    def encode_entities(self, side: Side, entities: Entities) -> FeatureArrays:
        """Encode every entity of one side; histories are not among the results, they need a time.

        Args:
            side: which tower.
            entities: E queries or candidates.

        Returns:
            By name, in the config's order: int32 [E] vocabulary rows (id, categorical), int32 [E, M] padded with 0
            behind (multivalent; M is the longest list kept, at least 1), float32 [E] (numeric, finite).

        Raises:
            UserError: a column is absent or of another type, or holds NaN or infinity.
        """
        return {
            feature.name: _encode(feature, side, entities) for feature in self.of(side) if feature.kind != "history"
        }


def fit_features(
    config: RunConfig, interactions: Interactions, queries: Entities, candidates: Entities, split: Split
) -> FittedFeatures:
    """Learn vocabularies and scales from the train positives and nothing else.

    Args:
        config: the run.
        interactions: all rows.
        queries: all queries.
        candidates: all candidates.
        split: which rows train.

    Returns:
        The fitted inputs of both towers. A history has a vocabulary of candidate ids of its own.

    Raises:
        UserError: a column is absent or of another type, holds NaN or infinity, or has fewer than two values.
    """
    train = split.train[interactions.positive[split.train]]
    counts: dict[Side, Int64Array] = {
        "query": np.bincount(interactions.query_rows[train], minlength=len(queries.ids)),
        "candidate": np.bincount(interactions.candidate_rows[train], minlength=len(candidates.ids)),
    }
    entities: dict[Side, Entities] = {"query": queries, "candidate": candidates}

    def fit(side: Side, feature: Feature) -> FittedFeature:
        seen: Side = "candidate" if feature.kind == "history" else side
        return _fit(feature, seen, entities[seen], counts[seen])

    return FittedFeatures(
        query=tuple(fit("query", feature) for feature in config.query.features),
        candidate=tuple(fit("candidate", feature) for feature in config.candidate.features),
    )


# ---------------------------------------------------------------- one feature


def _fit(feature: Feature, side: Side, entities: Entities, counts_E: Int64Array) -> FittedFeature:
    unfitted: dict[str, Any] = {
        "name": feature.name,
        "kind": feature.kind,
        "min_count": getattr(feature, "min_count", 1),
        "max_length": getattr(feature, "max_length", 20),
    }
    if feature.kind == "numeric":
        values_E, present_E = _numbers(feature.name, side, entities)
        mean, std = _moments(values_E[present_E], counts_E[present_E], where=_where(side, feature.name))
        return FittedFeature(**unfitted, mean=mean, std=std)
    if feature.kind == "multivalent":
        lists = _lists(feature.name, side, entities, feature.max_length)
        vocabulary = Vocabulary.fit(lists.values, counts_E[lists.rows], min_count=feature.min_count)
    else:
        values = _text(feature.kind, feature.name, side, entities)
        vocabulary = Vocabulary.fit(values, counts_E, min_count=feature.min_count)
    size = len(vocabulary.values)
    if size < 2:
        raise UserError(
            f"feature {feature.name!r} of kind {feature.kind} has a vocabulary of {size}, so it tells nothing",
            where=f"{_where(side, feature.name)}, train positives, min_count {feature.min_count}",
            todo="leave the feature out, lower its min_count, or give more rows",
        )
    return FittedFeature(**unfitted, values=vocabulary.values)


def _encode(feature: FittedFeature, side: Side, entities: Entities) -> Int32Array | Float32Array:
    if feature.kind == "numeric":
        return _scaled(feature, *_numbers(feature.name, side, entities), where=_where(side, feature.name))
    if feature.kind == "multivalent":
        lists = _lists(feature.name, side, entities, feature.max_length)
        return lists.padded(feature.vocabulary.encode(lists.values))
    return feature.vocabulary.encode(_text(feature.kind, feature.name, side, entities))


def _moments(values: np.ndarray, counts: Int64Array, *, where: str) -> tuple[float, float]:
    """Mean and standard deviation over train rows; (value, 0) for a constant, (0, 0) for nothing."""
    values, counts = values[counts > 0], counts[counts > 0]
    if not values.size:
        return 0.0, 0.0
    # A rounded mean of equal values may differ from them, and a tiny std would then blow the difference up.
    if values.min() == values.max():
        return float(values[0]), 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.average(values, weights=counts)
        std = np.sqrt(np.average((values - mean) ** 2, weights=counts))
    if not np.isfinite(mean + std):
        raise UserError("numbers too large to scale", where=where, todo="give them in a larger unit")
    return float(mean), float(std)


def _scaled(feature: FittedFeature, values_E: np.ndarray, present_E: np.ndarray, *, where: str) -> Float32Array:
    """z-scores [E]; 0, the mean, where missing."""
    if feature.std == 0:
        return np.zeros(len(values_E), np.float32)
    with np.errstate(over="ignore"):
        scaled_E = np.where(present_E, (values_E - feature.mean) / feature.std, 0).astype(np.float32)
    todo = f"values must be within reach of the train rows' {feature.mean:.4g} +- {feature.std:.4g}"
    refuse_rows(~np.isfinite(scaled_E), "numbers too large to scale", where=where, todo=todo)
    return scaled_E


# ---------------------------------------------------------------- reading columns


def _text(kind: str, name: str, side: Side, entities: Entities) -> pa.Array | pa.ChunkedArray:
    """Values of a single-valued feature [E]; ids come from the entities, whatever the feature is called."""
    if kind in ("id", "history"):
        return pa.array(entities.ids, pa.string())
    return as_text(_column(name, side, entities), where=_where(side, name))


def _numbers(name: str, side: Side, entities: Entities) -> tuple[np.ndarray, np.ndarray]:
    return as_numbers(_column(name, side, entities), where=_where(side, name))


def _lists(name: str, side: Side, entities: Entities, max_length: int) -> Lists:
    return lists_of(_column(name, side, entities), max_length=max_length, where=_where(side, name))


def _column(name: str, side: Side, entities: Entities) -> pa.ChunkedArray:
    return column_of(entities.table, name, where=TABLES[side], wanted_by=f"the {side} tower")


def _where(side: Side, name: str) -> str:
    return f"{TABLES[side]}, column {name}"


def _signature(feature: Feature | FittedFeature) -> tuple[str, str, int, int]:
    return feature.name, feature.kind, getattr(feature, "min_count", 1), getattr(feature, "max_length", 20)


def _say(signature: tuple[str, str, int, int]) -> str:
    name, kind, min_count, max_length = signature
    return f"{name!r} ({kind}, min_count {min_count}, max_length {max_length})"


def _other_run(difference: str) -> UserError:
    return UserError(
        f"the fitted features are another run's: {difference}",
        where="features.json",
        todo="use the config.yaml and features.json of one workdir",
    )
