"""Values of a parsed body: each is what its field says, or a refusal names the field.

JSON's `true` is no number here, though Python's is; a whole number is taken for the text of an id, as the tables of
training were read.
"""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from retrieval_contract.arrays import Float32Array
from retrieval_contract.data.columns import nearest
from retrieval_contract.serving.limits import Limits
from retrieval_contract.serving.refusal import bad

SHOWN = 60
"""Letters of a received value that a refusal repeats."""


def as_object(value: Any, field: str) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise bad(f"{shown(value)} where an object is needed", field=field)
    return value


def as_list(value: Any, field: str, *, most: int) -> list[Any]:
    """A JSON list of a bounded length."""
    if not isinstance(value, list):
        raise bad(f"{shown(value)} where a list is needed", field=field)
    if len(value) > most:
        raise bad(f"{len(value):,} entries, and {most:,} are allowed", field=field)
    return value


def as_flag(value: Any, field: str) -> bool:
    """A truth value."""
    if not isinstance(value, bool):
        raise bad(f"{shown(value)} where true or false is needed", field=field)
    return value


def as_text(value: Any, field: str) -> str:
    """An id, or a value of an attribute."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise bad(f"{shown(value)} where a text is needed", field=field)


def as_texts(value: Any, field: str, *, most: int) -> list[str]:
    """A list of texts; empty ones, which fill up rectangles, are left out."""
    texts = [as_text(item, f"{field}[{place}]") for place, item in enumerate(as_list(value, field, most=most))]
    return [text for text in texts if text]


def as_k(value: Any, *, size: int, limits: Limits) -> int:
    """Number of results: from 1 to the catalogue's size, or to the server's limit where that is less."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise bad(f"{shown(value)} where a whole number is needed", field="k")
    if not 1 <= value <= size:
        raise bad(
            f"{value:,} where the catalogue holds {size:,} candidates",
            field="k",
            todo=f"ask for 1 to {min(size, limits.k):,}",
        )
    if value > limits.k:
        raise bad(f"{value:,}, and this server answers {limits.k:,} at most", field="k")
    return value


def as_filter(value: Any, field: str, *, attributes: Iterable[str], limits: Limits) -> dict[str, list[str]] | None:
    """Accepted values by attribute; None where nothing is asked."""
    tree = as_object(value, field)
    refuse_unknown(tree, attributes, field, what="candidates have no attribute")
    wanted = {name: as_texts(values, f"{field}.{name}", most=limits.filter_values) for name, values in tree.items()}
    return wanted or None


def as_vectors(value: Any, field: str, *, dim: int) -> Float32Array:
    """Vectors [B, D], or [B, I, D] of queries of several."""
    try:
        numbers = np.array(value)
    except (ValueError, OverflowError):
        raise bad("lists of unequal lengths", field=field, todo=f"give rows of {dim} numbers") from None
    if numbers.size and numbers.dtype.kind not in "iuf":
        raise bad("entries that are not numbers", field=field, todo=f"give rows of {dim} numbers")
    if numbers.ndim not in (2, 3) or numbers.shape[-1] != dim or 0 in numbers.shape:
        todo = f"give [B, {dim}]"
        raise bad(f"shape {list(numbers.shape)} where vectors have width {dim}", field=field, todo=todo)
    if _holds_booleans(value, numbers.ndim):
        raise bad("entries that are not numbers", field=field, todo=f"give rows of {dim} numbers")
    with np.errstate(over="ignore"):
        vectors = numbers.astype(np.float32)
    if not np.isfinite(vectors).all():
        raise bad("entries that are not finite in float32", field=field)
    return vectors


def _holds_booleans(value: Any, depth: int) -> bool:
    """True where a list of lists holds one: beside numbers NumPy takes it for 0 or 1."""
    if isinstance(value, np.ndarray):
        return False
    for _ in range(depth - 1):
        value = itertools.chain.from_iterable(value)
    return bool in set(map(type, value))


def refuse_unknown(tree: Mapping[str, Any], known: Iterable[str], field: str, *, what: str = "unknown field") -> None:
    """Refuse a name that means nothing, and say the nearest that does."""
    names = list(known)
    for name in tree:
        if name not in names:
            place = f"{field}.{shorter(name)}" if field else shorter(name)
            raise bad(f"{what} {shorter(name)!r}", field=place, todo=nearest(shorter(name), names))


def shown(value: Any) -> str:
    """What a value is, and its beginning."""
    kinds = {bool: "true or false", str: "text", int: "number", float: "number", list: "list", dict: "object"}
    if value is None:
        return "null"
    kind = kinds[type(value)]
    return kind if isinstance(value, list | dict) else f"{kind} {shorter(repr(value))}"


def shorter(text: str) -> str:
    """A text that fits into a message."""
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"
