"""Encoded features of every kind, drawn as `FeatureArrays` says they look, and the sizes of the tables they look up.

Nothing here reads raw columns: what encoding makes of them is another room's; a tower sees rows and numbers. Lists and
histories have every awkward form: empty, full, a value twice, unknown values, and weights of which all are 0.

Letters: N rows of an array, M places of a list, L places of a history.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval_contract.config import (
    AffinityFeature,
    CategoricalFeature,
    CrossFeature,
    DenseFeature,
    Feature,
    HistoryFeature,
    MultivalentFeature,
    NumericFeature,
    RunConfig,
    TextFeature,
    TimeFeature,
    WeightedMeanPooling,
    table_width,
)

AnyArrays = dict[str, NDArray[Any]]

NUM_VALUES = 5
"""Values of a fitted vocabulary, padding and unknown not counted: as many as candidates have ids."""
LIST_LENGTHS = (3, 0, 1, 3, 2, 3, 0)
"""Values of one list after the other; 3 is the most that fits."""
HISTORIES = ((2, 6, 3, 5), (4, 0, 0, 0), (2, 6, 0, 0), (0, 0, 0, 0), (1, 1, 2, 0), (4, 0, 0, 0))
"""Vocabulary rows of the ids of six histories."""
SEQUENCES = ((2, 6, 3, 5), (4, 0, 0, 0), (1, 1, 0, 0), (6, 2, 4, 0))
PLACES = (0, 1, 3, 4, 8, 9)
"""Predicted places of the sequences: one has a place left out, the last has none."""
ROW_WHOSE_ITEMS_WEIGH_NOTHING = 2


def num_rows_of(feature: Feature) -> int:
    """Rows of a feature's table, padding and unknown among them."""
    if isinstance(feature, TimeFeature):
        return 2 + feature.num_values
    if isinstance(feature, NumericFeature):
        return 3 + len(feature.edges) if feature.scaling == "buckets" else 2 + feature.num_quantiles
    return 2 + (getattr(feature, "num_buckets", None) or NUM_VALUES)


def table_sizes(config: RunConfig) -> dict[str, dict[str, int]]:
    """Rows of every table by side, as `VocabularySizes` has them."""
    sizes = {
        str(side): {feature.name: num_rows_of(feature) for feature in tower.features if table_width(feature)}
        for side, tower in config.towers.items()
    }
    known = {feature.name: feature for feature in config.candidate.features}
    for history in config.query.histories:
        own = [] if history.shares else [name for name in history.fields if table_width(known[name])]
        sizes["query"] |= {f"{history.name}.{name}": num_rows_of(known[name]) for name in own}
    return sizes


def drawn(feature: Feature, num: int, generator: np.random.Generator, *, rows: int | None = None) -> AnyArrays:
    """Arrays of one feature that is no history, for N entities or requests.

    Args:
        feature: its configuration.
        num: N.
        generator: consumed.
        rows: of its table, where that is another feature's; none means its own.
    """
    if isinstance(feature, MultivalentFeature | TextFeature):
        return _lists(feature, num, generator, num_rows_of(feature) if rows is None else rows)
    if _is_one_row(feature):
        most = feature.width + 2 if _is_one_hot(feature) else num_rows_of(feature) if rows is None else rows
        return {feature.name: generator.integers(1, most, num).astype(np.int32)}
    values = generator.standard_normal((num, _numbers(feature))).astype(np.float32)
    if isinstance(feature, AffinityFeature):
        values = np.abs(values)
        values[:-1] /= values[:-1].sum(axis=1, keepdims=True)
        values[-1] = 0
    if isinstance(feature, NumericFeature) and feature.missing_flag:
        values[:, 1] = np.arange(num) % 2
    flat = isinstance(feature, NumericFeature | TimeFeature) and values.shape[1] == 1
    return {feature.name: values[:, 0] if flat else values}


def history_arrays(
    config: RunConfig,
    history: HistoryFeature,
    candidates: AnyArrays,
    generator: np.random.Generator,
    *,
    whole_sequences: bool,
    mixed: bool = False,
) -> AnyArrays:
    """Arrays of a history; fields are those of candidates drawn for each item.

    Args:
        config: the run.
        history: the feature.
        candidates: encoded features of all candidates.
        generator: consumed.
        whole_sequences: as `training.positions=all` has them; their lengths stay what they are.
        mixed: other ids, of which one does not occur, and other items; histories in another order too.
    """
    rows_BL = np.array(SEQUENCES if whole_sequences else HISTORIES, np.int32)
    if mixed:
        ids = np.r_[0, generator.permutation(6) + 1]
        ids[ids == generator.integers(1, 7)] = 1
        rows_BL = ids[rows_BL if whole_sequences else generator.permutation(rows_BL)].astype(np.int32)
    real_BL = rows_BL != 0
    entities_BL = generator.integers(0, len(next(iter(candidates.values()))), rows_BL.shape)
    arrays: AnyArrays = {history.name: rows_BL if history.ids else real_BL.astype(np.int32)}
    for field in history.fields:
        for name in (field, f"{field}.weights"):
            if name in candidates:
                values = candidates[name][entities_BL]
                arrays[f"{history.name}.{name}"] = np.where(
                    real_BL if values.ndim == 2 else real_BL[:, :, None], values, 0
                )
    if history.age_buckets:
        ages_BL = 1 + generator.integers(0, history.age_buckets, rows_BL.shape)
        arrays[f"{history.name}.ages"] = np.where(real_BL, ages_BL, 0).astype(np.int32)
    if isinstance(history.pooling, WeightedMeanPooling):
        weights_BL = np.where(real_BL, generator.uniform(0.1, 2, rows_BL.shape), 0)
        weights_BL[ROW_WHOSE_ITEMS_WEIGH_NOTHING] = 0
        arrays[f"{history.name}.weights"] = weights_BL.astype(np.float32)
    assert not set(history.fields) - {name.removeprefix(f"{history.name}.") for name in arrays}, config.name
    return arrays


def with_junk_in_padding(config: RunConfig, features: AnyArrays, generator: np.random.Generator) -> AnyArrays:
    """Query features whose padded places hold something, but for the row 0 that marks them as padded."""
    changed = dict(features)
    for history in config.query.histories:
        padded_BL = features[history.name] == 0
        for name in (name for name in features if name.startswith(f"{history.name}.")):
            values = features[name]
            junk = generator.permuted(values.reshape(-1)).reshape(values.shape) if values.any() else values
            changed[name] = np.where(padded_BL.reshape(padded_BL.shape + (1,) * (values.ndim - 2)), junk, values)
    for feature in config.query.features:
        if f"{feature.name}.weights" in features and isinstance(feature, MultivalentFeature):
            name = f"{feature.name}.weights"
            changed[name] = np.where(features[feature.name] == 0, np.float32(3), features[name])
    return changed


def _lists(
    feature: MultivalentFeature | TextFeature, num: int, generator: np.random.Generator, num_rows: int
) -> AnyArrays:
    lengths_N = np.resize(np.array(LIST_LENGTHS), num)
    rows_NM = generator.integers(1, num_rows, (num, max(LIST_LENGTHS))).astype(np.int32)
    rows_NM[0, 1] = rows_NM[0, 0]
    real_NM = np.arange(rows_NM.shape[1])[None, :] < lengths_N[:, None]
    arrays: AnyArrays = {feature.name: np.where(real_NM, rows_NM, 0).astype(np.int32)}
    if isinstance(feature, MultivalentFeature) and feature.weights_column is not None:
        weights_NM = np.where(real_NM, generator.uniform(0.1, 2, rows_NM.shape), 0)
        weights_NM[3 % num] = 0
        arrays[f"{feature.name}.weights"] = weights_NM.astype(np.float32)
    return arrays


def _is_one_row(feature: Feature) -> bool:
    return feature.kind in ("id", "categorical") or isinstance(feature, CrossFeature) or bool(table_width(feature))


def _is_one_hot(feature: Feature) -> bool:
    return isinstance(feature, CategoricalFeature) and feature.encoding == "one_hot"


def _numbers(feature: Feature) -> int:
    """Numbers in a row of its array, a dense vector's before any projection."""
    return feature.width if isinstance(feature, DenseFeature) else feature.output_width
