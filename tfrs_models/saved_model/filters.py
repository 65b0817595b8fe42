"""Which candidates a request's filters allow, in the graph: lists of rows by value, in plain TensorFlow ops.

Letters: B queries, F accepted values of a name, N candidates, P pairs of query and value, T rows that they mark.
"""

from collections.abc import Mapping
from typing import Any, final

import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from retrieval_contract.data.vocabulary import FIRST_ROW
from tfrs_models.preprocessing.rows import VocabularyTable


@final
class CandidateFilters(tf.Module):
    """Filters as `retrieval_contract.indexes.attributes` defines them: any value of a name, and every name."""

    def __init__(self, table: pa.Table) -> None:
        """Keep the rows of every value.

        Args:
            table: N rows; columns of text, or of lists of text, by the names that requests filter by.
        """
        super().__init__()
        self.size: int = table.num_rows
        self._columns = {name: _ValueRows(table.column(name).combine_chunks()) for name in table.column_names}

    @property
    def names(self) -> tuple[str, ...]:
        """What requests may filter by."""
        return tuple(self._columns)

    def __call__(self, wanted: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Accepted values by name, text [B, F] padded with "" -> True where a candidate is allowed [B, N].

        A query without values under a name is not filtered by it; a value that no candidate has matches nothing.
        """
        masks = [
            tf.logical_or(~tf.reduce_any(values_BF != "", axis=1, keepdims=True), self._marked(name, values_BF))
            for name, values_BF in wanted.items()
        ]
        return tf.reduce_all(tf.stack(masks), axis=0)

    def _marked(self, name: str, values_BF: tf.Tensor) -> tf.Tensor:
        rows_T, places_T = self._columns[name](values_BF)
        at_T2 = tf.stack([places_T, rows_T], axis=1)
        shape = [tf.shape(values_BF)[0], self.size]
        return tf.scatter_nd(at_T2, tf.ones_like(rows_T), shape) > 0


@final
class _ValueRows(tf.Module):
    """Rows of the candidates that have a value, all values' one after another."""

    def __init__(self, column: Any) -> None:
        super().__init__()
        values, rows, starts = _by_value(column)
        self._code = VocabularyTable(values)
        self._rows = tf.Variable(rows, trainable=False, dtype=tf.int32, shape=[len(rows)])
        self._starts = tf.Variable(starts, trainable=False, dtype=tf.int32)

    def __call__(self, values_BF: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Rows [T] of the candidates that have one of the values, and the query [T] of each; rows may repeat."""
        codes_BF = self._code(values_BF) - FIRST_ROW
        known_P2 = tf.where(tf.logical_and(codes_BF >= 0, values_BF != ""))
        lists = tf.RaggedTensor.from_row_splits(self._rows, self._starts, validate=False)
        found = tf.gather(lists, tf.gather_nd(codes_BF, known_P2))
        places_P = tf.cast(known_P2[:, 0], tf.int32)
        return found.flat_values, tf.repeat(places_P, found.row_lengths())


def _by_value(column: Any) -> tuple[list[str], list[int], list[int]]:
    """Values of a column, the rows that have them, sorted by value, and where each value's begin (and the end)."""
    rows, texts = pa.array(range(len(column)), pa.int32()), column
    if pa.types.is_list(column.type):
        rows, texts = pc.list_parent_indices(column).cast(pa.int32()), pc.list_flatten(column)
    pairs = pa.table({"value": texts, "row": rows}).filter(pc.field("value").is_valid())
    pairs = pairs.sort_by([("value", "ascending"), ("row", "ascending")])
    counts = pairs.group_by("value", use_threads=False).aggregate([("row", "count")])
    ends = pc.cumulative_sum(counts["row_count"]).to_pylist()
    return counts["value"].to_pylist(), pairs["row"].to_pylist(), [0, *ends]
