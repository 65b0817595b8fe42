"""Neighbours as text in a raw line, and what they are worth: recall, with its interval over queries.

A found row is written as its place among the true ones where it is one of those, so that a good answer, whose places
ascend, packs into a tenth of the bytes; then int32, little endian, differences along the results, zlib, base64.

Letters: Q queries, K results, T true rows.
"""

import base64
import zlib

import numpy as np
from numpy.typing import NDArray

from retrieval_contract.arrays import Int32Array

RESAMPLES, SEED = 2_000, 0
"""Of the bootstrap over queries: the same neighbours give the same interval."""


def packed(rows_QK: Int32Array, truth_QT: Int32Array) -> str:
    """Write found rows beside the true ones.

    Args:
        rows_QK: candidate rows, -1 where there is none.
        truth_QT: true rows of the same queries, best first; the reader must have them.
    """
    num_true = truth_QT.shape[1]
    codes_QK = np.where(rows_QK < 0, num_true, num_true + 1 + rows_QK)
    for codes_K, rows_K, truth_T in zip(codes_QK, rows_QK, truth_QT, strict=True):
        order_T = np.argsort(truth_T)
        place_K = order_T[np.minimum(np.searchsorted(truth_T[order_T], rows_K), num_true - 1)]
        is_true_K = truth_T[place_K] == rows_K
        codes_K[is_true_K] = place_K[is_true_K]
    return packed_truth(codes_QK.astype(np.int32))


def unpacked(text: str, truth_QT: Int32Array) -> Int32Array:
    """Read what `packed` wrote [Q, K]."""
    codes_QK, num_true = unpacked_truth(text, len(truth_QT)), truth_QT.shape[1]
    true_QK = np.take_along_axis(truth_QT, np.minimum(codes_QK, num_true - 1), axis=1)
    # The code of no result, as many as there are true rows, becomes -1.
    return np.where(codes_QK < num_true, true_QK, codes_QK - num_true - 1).astype(np.int32)


def packed_truth(rows_QT: Int32Array) -> str:
    """Write rows as they are."""
    differences_QT = np.diff(rows_QT, axis=1, prepend=np.int32(0))
    return base64.b64encode(zlib.compress(differences_QT.astype("<i4").tobytes(), 9)).decode("ascii")


def unpacked_truth(text: str, num_queries: int) -> Int32Array:
    """Read what `packed_truth` wrote [Q, T]."""
    differences = np.frombuffer(zlib.decompress(base64.b64decode(text)), "<i4")
    return np.cumsum(differences.reshape(num_queries, -1), axis=1, dtype=np.int32)


def recalls(rows_QK: Int32Array, truth_QT: Int32Array, at: int) -> NDArray[np.float64]:
    """Share of each query's best `at` that is among the first `at` found; a row found twice counts once [Q]."""
    found_QT = (rows_QK[:, None, :at] == truth_QT[:, :at, None]).any(axis=2)
    return found_QT.mean(axis=1)


def refuse_repeats(rows_QK: Int32Array, name: str) -> None:
    """Make sure that no query was given a row twice.

    Raises:
        AssertionError: one was.
    """
    ordered_QK = np.sort(rows_QK, axis=1)
    twice_QK = (ordered_QK[:, 1:] == ordered_QK[:, :-1]) & (ordered_QK[:, 1:] >= 0)
    assert not twice_QK.any(), f"{name} finds a row twice"


def interval(values_Q: NDArray[np.float64]) -> tuple[float, float]:
    """95 % of the mean, by a bootstrap over queries."""
    at = np.random.default_rng(SEED).integers(len(values_Q), size=(RESAMPLES, len(values_Q)))
    low, high = np.quantile(values_Q[at].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)
