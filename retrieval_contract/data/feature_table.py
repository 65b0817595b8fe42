"""The rows that some features are read from: entities of one side, or requests; with errors that name the feature.

Letters: R rows of the table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieval_contract.arrays import BoolArray, Int64Array
from retrieval_contract.config import Feature, Side
from retrieval_contract.data.columns import as_numbers, as_text, nearest
from retrieval_contract.errors import UserError

QUERIES, CANDIDATES, INTERACTIONS = "queries", "candidates", "interactions"
COLUMNS_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureTable:
    """Columns of a table, and what stands beside them."""

    table: pa.Table
    """R rows."""
    name: str
    """`queries`, `candidates` or `interactions`, for errors."""
    side: Side
    """The tower that reads it."""
    num_rows: int
    """R; a table of no column forgets it."""
    ids: Sequence[str] | None = None
    """Raw ids [R], of entities."""
    times: Int64Array | None = None
    """Unix seconds [R], of requests; None where they are not known."""
    data_dir: Path = Path()
    """Folder that relative file names start from."""
    elsewhere: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Columns of other tables by table, which an error points to."""

    def where(self, spec: Feature) -> str:
        """Table, column and feature, for errors."""
        feature = "" if spec.column_name == spec.name else f", feature {spec.name}"
        return f"{self.name}, column {spec.column_name}{feature}"

    def column(self, spec: Feature) -> pa.ChunkedArray:
        """Column of a feature [R].

        Raises:
            UserError: no such column; the nearest is named, the columns there are, and a table that has it.
        """
        name, known = spec.column_name, self.table.column_names
        if name in known:
            return self.table.column(name)
        others = [table for table, columns in self.elsewhere.items() if name in columns]
        there = f"the {' and '.join(others)} have one" if others else nearest(name, known)
        listed = f"; there are: {', '.join(known[:COLUMNS_SHOWN]) or 'none'}"
        raise UserError(
            f"no column {name!r}, which feature {spec.name!r} of the {self.side} tower needs",
            where=self.name,
            todo=there if there.startswith("there are") else there + listed,
        )

    def text(self, spec: Feature) -> pa.ChunkedArray:
        """Column of single values as text [R]; NaN is missing.

        Raises:
            UserError: lists, or infinity among floats.
        """
        return as_text(self.column(spec), where=self.where(spec), nan_is_missing=True)

    def numbers(self, spec: Feature) -> tuple[NDArray[np.float64], BoolArray]:
        """Column of numbers: values [R], 0 where missing, and True where one is there [R]; NaN is missing.

        Raises:
            UserError: other values than numbers, or infinity.
        """
        return as_numbers(self.column(spec), where=self.where(spec), nan_is_missing=True)
