"""Candidates as columns of the logits. Letters: N candidates scored, D vector width."""
# ruff: noqa: N815 (fields carry their shape letters)

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Columns:
    """Candidates that queries are scored with, wherever they come from."""

    vectors_ND: Tensor
    """Vectors [N, D], without the bias dimension."""
    rows_N: Tensor
    """Entity rows [N], int64; a candidate may stand in several columns."""
    log_q_N: Tensor
    """Natural log of each column's sampling probability [N]."""
    bias_N: Tensor | None
    """What is added to the logits [N]; none where the model has no candidate bias."""

    def part(self, start: int, stop: int) -> "Columns":
        """The columns from `start` to before `stop`."""
        bias = None if self.bias_N is None else self.bias_N[start:stop]
        return Columns(self.vectors_ND[start:stop], self.rows_N[start:stop], self.log_q_N[start:stop], bias)


def joined(parts: Sequence[Columns]) -> Columns:
    """Put columns one behind the other.

    Args:
        parts: one or more, with a bias all or none.

    Returns:
        The columns of all parts, in their order; a single part itself.
    """
    if len(parts) == 1:
        return parts[0]
    biases = [part.bias_N for part in parts if part.bias_N is not None]
    assert len(biases) in (0, len(parts)), "some columns have a bias and some have none"
    return Columns(
        torch.cat([part.vectors_ND for part in parts]),
        torch.cat([part.rows_N for part in parts]),
        torch.cat([part.log_q_N for part in parts]),
        torch.cat(biases) if biases else None,
    )
