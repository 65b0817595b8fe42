"""Which rows count, and which part each belongs to."""

from typing import Annotated, Literal, Self

import pydantic
from pydantic import Field

from retrieval_contract.config.base import Fraction, Settings


class Positives(Settings):
    """Which raw row counts as a positive, and how much."""

    rule: Literal["all", "rating_at_least", "engaged"] = "all"
    """Every row; rating at or above `rating_at_least`; or watched above `watched_above`, liked, or shared."""
    rating_at_least: float = 4.0
    """Threshold on the column `rating`."""
    watched_above: float = 0.5
    """Threshold on the column `watched_fraction` (0 to 1)."""
    weight_column: str | None = None
    """Column of sample weights, finite and not negative; none means 1 for every row."""


class SplitRule(Settings):
    """How rows are divided into train, validation and test."""

    kind: Literal["temporal", "leave_one_out", "random", "column"] = "temporal"
    """Global cut in time; each query's last row (test) and last but one (validation); a seeded draw; a given column."""
    validation_fraction: Fraction = 0.1
    """Share of rows for validation (temporal, random). 0 holds none out, and so it does for leave_one_out: for the last
    run, when all choices are made."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of rows for test (temporal, random)."""
    column: str = "split"
    """Column holding `train`, `validation` or `test` (kind `column`)."""
    seed: int = 42
    """Seed of the random split; separate from the run's, so that several seeds share one split."""

    @pydantic.model_validator(mode="after")
    def _something_is_left_to_train_on(self) -> Self:
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("validation_fraction + test_fraction must be below 1, so that train is not empty")
        return self
