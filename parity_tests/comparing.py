"""Three corners, one comparison: TensorFlow, PyTorch and the float64 oracle, by a rule from `tolerances.py`."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from parity_tests.tolerances import Rule

Corners = dict[str, dict[str, NDArray[Any]]]


def assert_same(
    tf: ArrayLike | Mapping[str, ArrayLike],
    torch: ArrayLike | Mapping[str, ArrayLike],
    oracle: ArrayLike | Mapping[str, ArrayLike],
    rule: Rule,
) -> None:
    """Raise unless the three agree, each with each, and print the worst element.

    NaN is never the same as anything; an infinity is the same as itself. An array with no element agrees with any
    other of its shape.

    Args:
        tf: TensorFlow's array, or arrays by name.
        torch: PyTorch's.
        oracle: the truth; its values scale the relative tolerance.
        rule: how far apart they may be.

    Raises:
        AssertionError: names or shapes differ, or an element is too far off; the message gives its place, the three
            values, and the error over the tolerance.
    """
    corners: Corners = {"tf": _by_name(tf), "torch": _by_name(torch), "oracle": _by_name(oracle)}
    _assert_same_names(corners)
    worst: _Element | None = None
    for name in corners["oracle"]:
        arrays = {corner: named[name] for corner, named in corners.items()}
        _assert_same_shapes(name, arrays)
        if rule.exact:
            _assert_same_bytes(name, arrays)
        elif arrays["oracle"].size:
            element = _worst_element(name, arrays, rule)
            worst = element if worst is None or element.ratio > worst.ratio else worst
    if worst is not None and not worst.ratio <= 1:
        raise AssertionError(f"{worst.line} (rtol {rule.rtol:g}, atol {rule.atol:g}: {rule.reason})")


def worst_ratio(
    a: ArrayLike | Mapping[str, ArrayLike], oracle: ArrayLike | Mapping[str, ArrayLike], rule: Rule
) -> float:
    """Largest error of `a` over the tolerance: 1 is the edge of passing. For measuring how much room a rule leaves."""
    named, truth = _by_name(a), _by_name(oracle)
    arrays = ({"tf": named[name], "torch": named[name], "oracle": truth[name]} for name in truth if truth[name].size)
    return max((_worst_element("", three, rule).ratio for three in arrays), default=0.0)


@dataclass(frozen=True, slots=True)
class _Element:
    ratio: float
    line: str


def _by_name(value: ArrayLike | Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]:
    if isinstance(value, Mapping):
        return {name: np.asarray(array) for name, array in value.items()}
    return {"": np.asarray(value)}


def _assert_same_names(corners: Corners) -> None:
    names = set(corners["oracle"])
    for corner, named in corners.items():
        missing, extra = sorted(names - set(named)), sorted(set(named) - names)
        assert not missing and not extra, f"{corner} lacks {missing} and has {extra} beside the oracle's"


def _assert_same_shapes(name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    shapes = {corner: array.shape for corner, array in arrays.items()}
    assert len(set(shapes.values())) == 1, f"{name or 'value'}: shapes differ: {shapes}"


def _assert_same_bytes(name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    dtypes = {corner: array.dtype.str for corner, array in arrays.items()}
    assert len(set(dtypes.values())) == 1, f"{name or 'value'}: dtypes differ: {dtypes}"
    if len({array.tobytes() for array in arrays.values()}) == 1:
        return
    as_bytes = {corner: np.ascontiguousarray(array).reshape(-1).view(np.uint8) for corner, array in arrays.items()}
    differs = (as_bytes["tf"] != as_bytes["oracle"]) | (as_bytes["torch"] != as_bytes["oracle"])
    place = int(np.flatnonzero(differs)[0]) // arrays["oracle"].dtype.itemsize
    raise AssertionError(f"{_place(name, place, arrays)}: {_values(place, arrays)}: bytes differ")


def _worst_element(name: str, arrays: Mapping[str, NDArray[Any]], rule: Rule) -> _Element:
    tolerance = rule.atol + rule.rtol * np.abs(arrays["oracle"].astype(np.float64))
    best = _Element(-1.0, "")
    for one, other in itertools.combinations(arrays, 2):
        ratios = _ratios(arrays[one].astype(np.float64), arrays[other].astype(np.float64), tolerance).reshape(-1)
        place = int(np.argmax(ratios))
        if ratios[place] > best.ratio:
            line = f"{_place(name, place, arrays)}: {_values(place, arrays)}: {one} against {other} is"
            best = _Element(float(ratios[place]), f"{line} {ratios[place]:.3g} times the tolerance off")
    return best


def _ratios(a: NDArray[np.float64], b: NDArray[np.float64], tolerance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Error over tolerance; 0 where equal (infinities too), infinite where NaN or only one of the two is infinite."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = np.where(a == b, 0.0, np.abs(a - b) / np.where(np.isfinite(tolerance), tolerance, 0.0))
    return np.where(np.isnan(ratios), np.inf, ratios)


def _place(name: str, place: int, arrays: Mapping[str, NDArray[Any]]) -> str:
    steps = ", ".join(str(int(step)) for step in np.unravel_index(place, arrays["oracle"].shape))
    return f"{name or 'value'}[{steps}]"


def _values(place: int, arrays: Mapping[str, NDArray[Any]]) -> str:
    return ", ".join(f"{corner} {array.reshape(-1)[place]!r}" for corner, array in arrays.items())
