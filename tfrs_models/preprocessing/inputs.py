"""Raw inputs: what each is called, its type and shape, and what stands where nothing is known.

| form | exact form | rectangle (`lists="padded"`) | missing |
|---|---|---|---|
| text | string [B] | the same | the one byte 0xFF (`MISSING_TEXT`); an empty text is a value |
| number | float64 [B] | the same | NaN |
| moment | int64 [B], Unix seconds | the same | the least int64 (`MISSING_MOMENT`) |
| texts | string, ragged [B, M] | string [B, M], empty texts are left out | the empty list; within it `MISSING_TEXT` |
| numbers | float64, ragged [B, M] | float64 [B, M], beside its texts | NaN; counts as 1 |
| moments | int64, ragged [B, M] | int64 [B, M], beside its texts | the least int64; age 0 |
| tokens | int64, ragged [B, M] | int64 [B, M], negative ones are left out | the empty list |
| vector | float32 [B, D] | the same | a vector with NaN in it |

A signature of a SavedModel cannot name the parts of a ragged tensor, and a request in JSON is a rectangle: that is what
the second form is for. Whole numbers and booleans are taken for texts too, written as the tables of training were read;
a list may also come as text [B] with `|` between its values. Letters: B examples, M values of a list, D width.
"""

from collections.abc import Mapping
from typing import Any, Literal

import tensorflow as tf

from retrieval_contract.data.columns import nearest
from retrieval_contract.errors import UserError
from retrieval_contract.serving.raw_inputs import Form, RawInput
from retrieval_contract.serving.raw_rows import MISSING_MOMENT
from tfrs_models.preprocessing.lists import ragged_lists
from tfrs_models.preprocessing.rows import MISSING_TEXT

_DTYPES: Mapping[Form, tf.DType] = {
    "text": tf.string,
    "number": tf.float64,
    "moment": tf.int64,
    "texts": tf.string,
    "numbers": tf.float64,
    "moments": tf.int64,
    "tokens": tf.int64,
    "vector": tf.float32,
}
_LISTS: tuple[Form, ...] = ("texts", "numbers", "moments", "tokens")
_MISSING: Mapping[Form, Any] = {
    "text": MISSING_TEXT,
    "number": float("nan"),
    "moment": MISSING_MOMENT,
    "vector": float("nan"),
}


def dtype_of(raw: RawInput) -> tf.DType:
    """Type of an input's values."""
    return _DTYPES[raw.form]


def spec_of(raw: RawInput, name: str, *, lists: Literal["ragged", "padded"]) -> tf.TypeSpec:
    """Type and shape of an input for a signature, every length left open."""
    if raw.form not in _LISTS:
        return tf.TensorSpec([None] if raw.form != "vector" else [None, raw.width], dtype_of(raw), name)
    if lists == "padded":
        return tf.TensorSpec([None, None], dtype_of(raw), name)
    return tf.RaggedTensorSpec([None, None], dtype_of(raw), ragged_rank=1, row_splits_dtype=tf.int64)


def missing(raw: RawInput, num_rows: tf.Tensor) -> Any:
    """What stands for a column of nothing [num_rows]."""
    if raw.form in _LISTS:
        lengths = tf.zeros([num_rows], tf.int64)
        return tf.RaggedTensor.from_row_lengths(tf.zeros([0], dtype_of(raw)), lengths, validate=False)
    shape = [num_rows] if raw.form != "vector" else [num_rows, raw.width]
    return tf.fill(shape, tf.constant(_MISSING[raw.form], dtype_of(raw)))


class RawRows:
    """The inputs of one call, each checked and brought into its exact form when it is asked for."""

    def __init__(self, names: Mapping[RawInput, str], raw: Mapping[str, Any]) -> None:
        """Look at what came.

        Args:
            names: inputs there are, by `input_names`.
            raw: tensors (or arrays) by name; an input that is left out is missing in every row.

        Raises:
            UserError: an input of an unknown name, or none at all, so that nobody knows how many rows there are.
        """
        if unknown := sorted(set(raw) - set(names.values())):
            raise UserError(f"no input {unknown[0]!r}", where="raw inputs", todo=nearest(unknown[0], names.values()))
        if not raw:
            todo = f"give one or more of {', '.join(names.values())}"
            raise UserError("not one input, so nobody knows how many rows", where="raw inputs", todo=todo)
        self._names = names
        self._raw = {name: _tensor(value) for name, value in raw.items()}
        first = next(iter(self._raw.values()))
        self.num_rows: tf.Tensor = first.nrows() if isinstance(first, tf.RaggedTensor) else tf.shape(first)[0]

    def column(self, raw: RawInput) -> tf.Tensor:
        """One value a row [B], or one vector [B, D].

        Raises:
            UserError: of another type or shape.
        """
        value = self._given(raw)
        if value is None:
            return missing(raw, self.num_rows)
        self._check_rank(raw, value, (2,) if raw.form == "vector" else (1,))
        return value

    def lists(self, values: RawInput, *beside: RawInput) -> tuple[Any, ...]:
        """Lists as ragged tensors, and what stands beside their values; None where that is left out.

        Raises:
            UserError: of another type or shape.
        """
        given = [self._given(raw) for raw in (values, *beside)]
        if given[0] is None:
            given[0] = missing(values, self.num_rows)
        for raw, value in zip((values, *beside), given, strict=True):
            if value is not None:
                self._check_rank(raw, value, (1, 2) if raw is values and raw.form == "texts" else (2,))
        return ragged_lists(*given)

    def _given(self, raw: RawInput) -> Any:
        """The input in its own type; None where it is left out."""
        name = self._names[raw]
        if name not in self._raw:
            return None
        value = self._raw[name]
        if value.dtype == dtype_of(raw):
            return value
        wanted = dtype_of(raw)
        if wanted == tf.string and (value.dtype.is_integer or value.dtype.is_bool):
            return tf.strings.as_string(value)
        exact = value.dtype.is_integer or value.dtype.is_bool or (value.dtype.is_floating and wanted.is_floating)
        if wanted == tf.string or not exact:
            raise self._wrong(raw, f"{value.dtype.name} where {wanted.name} is needed")
        return tf.cast(value, wanted)

    def _check_rank(self, raw: RawInput, value: Any, ranks: tuple[int, ...]) -> None:
        if value.shape.rank not in ranks:
            raise self._wrong(raw, f"shape {value.shape} where rank {' or '.join(map(str, ranks))} is needed")
        if raw.form == "vector" and value.shape[1] not in (None, raw.width):
            raise self._wrong(raw, f"vectors of width {value.shape[1]} where the feature has width {raw.width}")

    def _wrong(self, raw: RawInput, what: str) -> UserError:
        return UserError(f"input {self._names[raw]!r}: {what}", where="raw inputs", todo=f"it is {raw.form}")


def _tensor(value: Any) -> Any:
    return value if isinstance(value, tf.RaggedTensor) else tf.convert_to_tensor(value)
