"""Candidates that stand against the queries of a batch: their vectors, who they are, and what was known of their draw.

Letters: B queries in the batch, N columns, D vector width.
"""

# ruff: noqa: N815 (names of arrays carry shape letters)

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf


class Columns(NamedTuple):
    """Columns of every row of a batch [N]; a row's own columns (impressions) carry [B, X] instead of [N]."""

    vectors_ND: tf.Tensor
    """Candidate vectors, without the bias dimension."""
    rows_N: tf.Tensor
    """Entity rows; a candidate may stand in several columns."""
    log_q_N: tf.Tensor
    """Natural log of the probability with which the column's candidate is drawn."""
    bias_N: tf.Tensor | None
    """Candidate bias, added to the logits after the temperature; none where the model has none."""


def joined(parts: Sequence[Columns]) -> Columns:
    """Columns one part after the other.

    Args:
        parts: one or more, all with a bias or none.

    Returns:
        Columns; of one part the part itself.
    """
    if len(parts) == 1:
        return parts[0]
    with_bias = {part.bias_N is not None for part in parts}
    assert len(with_bias) == 1, "a bias belongs to the model: all parts have one, or none"
    return Columns(
        *(None if tensors[0] is None else tf.concat(tensors, axis=0) for tensors in zip(*parts, strict=True))
    )
