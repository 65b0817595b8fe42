"""Vocabularies, scales and edges of one feature, learnt from the train rows of its table.

Letters: R rows of the table.
"""

from collections.abc import Sequence

import pyarrow as pa

from retrieval_contract.arrays import Int64Array
from retrieval_contract.config import (
    AffinityFeature,
    CategoricalFeature,
    CrossFeature,
    DenseFeature,
    Feature,
    HistoryFeature,
    IdFeature,
    LookupFeature,
    MultivalentFeature,
    NumericFeature,
    TextFeature,
    TimeFeature,
)
from retrieval_contract.data.encoding import read_lists
from retrieval_contract.data.feature_table import FeatureTable
from retrieval_contract.data.fitted import FittedFeature
from retrieval_contract.data.numbers import fit_numeric
from retrieval_contract.data.texts import fit_text
from retrieval_contract.data.times import fit_time, moments_of
from retrieval_contract.data.vocabulary import Vocabulary
from retrieval_contract.errors import UserError


def fit_own(spec: Feature, table: FeatureTable, counts_R: Int64Array, *, reference_time: float) -> FittedFeature:
    """Fit a feature that needs no other feature.

    Args:
        spec: any kind but affinity; a history that does not share, no lookup that shares.
        table: rows that it is read from; of a history the candidates.
        counts_R: train positives behind each row.
        reference_time: Unix second of the last train row.

    Raises:
        UserError: the column is absent or of another type, or has fewer than two values where a vocabulary is fitted.
    """
    if isinstance(spec, NumericFeature):
        return fit_numeric(spec, *table.numbers(spec), counts_R, where=table.where(spec))
    if isinstance(spec, TimeFeature):
        moments = moments_of(spec, table)
        return fit_time(spec, *moments, counts_R, reference_time=reference_time, where=table.where(spec))
    if isinstance(spec, TextFeature):
        return fit_text(spec, table.data_dir)
    if isinstance(spec, DenseFeature):
        return FittedFeature(spec=spec)
    if isinstance(spec, CrossFeature):
        return FittedFeature(spec=spec, num_buckets=spec.num_buckets)
    if isinstance(spec, HistoryFeature) and not spec.ids:
        return FittedFeature(spec=spec)
    if isinstance(spec, LookupFeature) and spec.num_buckets is not None:
        return FittedFeature(spec=spec, num_buckets=spec.num_buckets)
    assert isinstance(spec, LookupFeature | HistoryFeature)
    vocabulary = fit_vocabulary(spec, table, counts_R)
    _check_vocabulary(spec, vocabulary, table)
    return FittedFeature(spec=spec, values=vocabulary.values)


def fit_from(spec: Feature, candidate: Sequence[FittedFeature]) -> FittedFeature:
    """Fit a feature that reads a table or a vocabulary of the candidate tower.

    Args:
        spec: a lookup that shares, a history that shares, or an affinity; the config has checked what it names.
        candidate: fitted features of the candidate tower.

    Raises:
        UserError: an affinity of fewer places than its feature has values.
    """
    source = vocabulary_source(spec, candidate)
    if source is None:
        return FittedFeature(spec=spec)
    if isinstance(spec, AffinityFeature):
        assert source.values is not None
        _check_places(spec, len(source.values), what=f"{spec.of!r} of the candidate tower")
    return FittedFeature(spec=spec, values=source.values, num_buckets=source.num_buckets)


def vocabulary_source(spec: Feature, candidate: Sequence[FittedFeature]) -> FittedFeature | None:
    """The feature of the candidate tower whose vocabulary is this one's too; None where it has its own, or none."""
    if isinstance(spec, HistoryFeature):
        shares_ids = spec.shares and spec.ids
        return next((feature for feature in candidate if shares_ids and feature.kind == "id"), None)
    named = spec.of if isinstance(spec, AffinityFeature) else getattr(spec, "shares", None)
    return next((feature for feature in candidate if feature.name == named), None)


def reads_candidate(spec: Feature) -> bool:
    """True where `fit_from` fits the feature, not `fit_own`."""
    if isinstance(spec, HistoryFeature):
        return spec.shares
    return isinstance(spec, AffinityFeature) or (isinstance(spec, LookupFeature) and spec.shares is not None)


def fit_vocabulary(spec: LookupFeature | HistoryFeature, table: FeatureTable, counts_R: Int64Array) -> Vocabulary:
    """Values that train rows hold often enough.

    Args:
        spec: a lookup, or a history, whose values are the table's ids.
        table: rows that it is read from.
        counts_R: train positives behind each row.
    """
    if isinstance(spec, IdFeature | HistoryFeature):
        assert table.ids is not None, "an id is an entity's"
        top = spec.top if isinstance(spec, IdFeature) else None
        return Vocabulary.fit(pa.array(table.ids, pa.string()), counts_R, min_count=spec.min_count, top=top)
    if isinstance(spec, MultivalentFeature):
        lists = read_lists(spec, table)
        return Vocabulary.fit(lists.values, counts_R[lists.rows], min_count=spec.min_count, top=spec.top)
    return Vocabulary.fit(table.text(spec), counts_R, min_count=spec.min_count, top=spec.top)


def places_of(spec: Feature) -> int | None:
    """Values at most that the feature's vocabulary may have; None where there is no bound."""
    if isinstance(spec, CategoricalFeature) and spec.encoding == "one_hot":
        return spec.width
    return spec.width if isinstance(spec, AffinityFeature) else None


def _check_vocabulary(spec: LookupFeature | HistoryFeature, vocabulary: Vocabulary, table: FeatureTable) -> None:
    size = len(vocabulary.values)
    if size < 2:
        raise UserError(
            f"feature {spec.name!r} of kind {spec.kind} has a vocabulary of {size}, so it tells nothing",
            where=f"{table.where(spec)}, train positives, min_count {spec.min_count}",
            todo="leave the feature out, lower its min_count, or give more rows",
        )
    if places_of(spec) is not None:
        _check_places(spec, size, what=table.where(spec))


def _check_places(spec: Feature, size: int, *, what: str) -> None:
    places = places_of(spec)
    assert places is not None
    if size > places:
        how = "one_hot " if isinstance(spec, CategoricalFeature) else ""
        raise UserError(
            f"{spec.kind} {spec.name!r} has {how}width {places}, and {what} has {size} values",
            where="train positives",
            todo=f"set width to {size} or more, or keep fewer values with top or min_count",
        )
