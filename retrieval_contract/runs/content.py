"""What a candidate is by its content alone: the vectors of all its features but the id, end to end, in NumPy.

Letters: N candidates, M values of a list, W width of a feature, C numbers of all content together, V vocabulary rows.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from retrieval_contract.arrays import AnyArray, FeatureArrays, Float32Array
from retrieval_contract.config import (
    CategoricalFeature,
    DenseFeature,
    Feature,
    IdFeature,
    MultivalentFeature,
    TextFeature,
    Tower,
    looks_up_one_row,
)
from retrieval_contract.data.vocabulary import FIRST_ROW, PADDING_ROW
from retrieval_contract.weights.names import embedding_name, projection_name

Float64Array = NDArray[np.float64]


def content_vectors(tower: Tower, features: FeatureArrays, weights: Mapping[str, Float32Array]) -> Float32Array | None:
    """Put the vectors of a candidate tower's content features end to end.

    Each is what the tower combines: the embedding of a value, pooled as the feature says where it has several; a number
    as it is encoded; a dense vector, projected where it is.

    Args:
        tower: the candidate tower.
        features: encoded candidates, leading dimension N.
        weights: canonical name -> array, of tables that hold every row of `features`.

    Returns:
        Vectors [N, C] in the order of the features; None where the tower has nothing but ids.
    """
    content = [feature for feature in tower.features if not isinstance(feature, IdFeature)]
    if not content:
        return None
    return np.concatenate([_vectors(feature, features, weights) for feature in content], axis=1)


def _vectors(feature: Feature, features: FeatureArrays, weights: Mapping[str, Float32Array]) -> Float32Array:
    """One feature's vectors [N, W]."""
    values = np.asarray(features[feature.name])
    if isinstance(feature, CategoricalFeature) and feature.encoding == "one_hot":
        return (values[:, None] - FIRST_ROW == np.arange(feature.width)).astype(np.float32)
    if isinstance(feature, MultivalentFeature | TextFeature):
        table_VW = weights[embedding_name("candidate", feature.name)]
        return _pooled(table_VW, values, features.get(f"{feature.name}.weights"), feature.pooling)
    if looks_up_one_row(feature):
        return weights[embedding_name("candidate", feature.name)][values]
    numbers_NW = values.reshape(len(values), -1).astype(np.float32)
    if isinstance(feature, DenseFeature) and feature.projection is not None:
        kernel = weights[projection_name("candidate", feature.name)].astype(np.float64)
        return (numbers_NW.astype(np.float64) @ kernel).astype(np.float32)
    return numbers_NW


def _pooled(table_VW: Float32Array, rows_NM: AnyArray, weights_NM: AnyArray | None, pooling: str) -> Float32Array:
    """Pool the embeddings of lists, place by place so that no [N, M, W] array is made; an empty list gives zeros."""
    real_NM = rows_NM != PADDING_ROW
    if pooling == "max":
        best_NW = np.full((len(rows_NM), table_VW.shape[1]), -np.inf, np.float32)
        for place in range(rows_NM.shape[1]):
            item_NW = np.where(real_NM[:, place, None], table_VW[rows_NM[:, place]], -np.inf)
            best_NW = np.maximum(best_NW, item_NW)
        return np.where(real_NM.any(axis=1, keepdims=True), best_NW, np.float32(0))
    share_NM = np.where(real_NM, 1.0 if weights_NM is None else weights_NM, 0.0).astype(np.float64)
    total_NW = np.zeros((len(rows_NM), table_VW.shape[1]))
    for place in range(rows_NM.shape[1]):
        total_NW += share_NM[:, place, None] * table_VW[rows_NM[:, place]]
    return (total_NW / _divisor(share_NM, pooling)).astype(np.float32)


def _divisor(share_NM: Float64Array, pooling: str) -> Float64Array:
    """What a weighted sum is divided by [N, 1]; 1 where that is nothing."""
    if pooling == "sum":
        return np.ones((len(share_NM), 1))
    size_N1 = share_NM.sum(axis=1, keepdims=True)
    if pooling == "sqrt_n":
        size_N1 = np.sqrt((share_NM**2).sum(axis=1, keepdims=True))
    return np.where(size_N1 > 0, size_N1, 1.0)
