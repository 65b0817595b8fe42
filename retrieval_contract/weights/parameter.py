"""One weight of the canonical table, and the kinds that most weights are of."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One weight: its shape, how it starts, and how the optimiser treats it."""

    shape: tuple[int, ...]
    start: Literal["embedding", "normal", "standard_normal", "glorot_uniform", "zeros", "constant"]
    """`normal` has the configured embedding_stddev, and so has `embedding`, whose row 0 (padding) is zero;
    `standard_normal` has 1; `constant` is filled with `value`."""
    sparse: bool
    """True for tables whose rows move only when a batch touches them."""
    decays: bool
    """True where AdamW's weight decay acts."""
    value: float = 0.0
    """Where a `constant` starts."""
    bounds: tuple[float, float] | None = None
    """Least and largest value, which the trainer puts the parameter back to after every step; none means free."""
    trained: bool = True
    """False for what no gradient moves and no optimiser has slots for: moving statistics, fixed draws."""


def embedding(num_rows: int, width: int) -> Parameter:
    """An embedding table [V, W]."""
    return Parameter(shape=(num_rows, width), start="embedding", sparse=True, decays=True)


def dense_parameter(width_in: int, width_out: int) -> Parameter:
    """A kernel [in, out]."""
    return Parameter(shape=(width_in, width_out), start="glorot_uniform", sparse=False, decays=True)


def offset(width: int, *, value: float = 0.0, trained: bool = True) -> Parameter:
    """A bias, a scale, or a statistic [W]; weight decay does not act on it."""
    start: Literal["constant", "zeros"] = "constant" if value else "zeros"
    return Parameter(shape=(width,), start=start, sparse=False, decays=False, value=value, trained=trained)
