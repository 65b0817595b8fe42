"""Reverse-mode differentiation over float64 arrays: an oracle is its forward formula, written once.

A node has a value and knows, for each node that it was computed from, how a gradient at itself goes back. Nothing here
knows a tower or a loss. Shapes broadcast as in NumPy; a gradient is summed over what was broadcast.

Source: Griewank and Walther, Evaluating Derivatives, 2008, section 3.2 (reverse mode); checked by central differences.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
PullBack = Callable[[Array], Array]


class Node:
    """A float64 array and where it came from."""

    __slots__ = ("parents", "value")
    __array_ufunc__ = None  # an array on the left leaves the operation to the node

    def __init__(self, value: ArrayLike, parents: Sequence[tuple["Node", PullBack]] = ()) -> None:
        """Without parents it is a constant, or a leaf whose gradient is asked for."""
        self.value: Array = np.asarray(value, np.float64)
        self.parents = tuple(parents)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value."""
        return self.value.shape

    def __add__(self, other: "Node | ArrayLike") -> "Node":
        a, b = self, node(other)
        return Node(a.value + b.value, [(a, lambda g: fitted(g, a)), (b, lambda g: fitted(g, b))])

    def __mul__(self, other: "Node | ArrayLike") -> "Node":
        a, b = self, node(other)
        pulls = [(a, lambda g: fitted(g * b.value, a)), (b, lambda g: fitted(g * a.value, b))]
        return Node(a.value * b.value, pulls)

    def __truediv__(self, other: "Node | ArrayLike") -> "Node":
        a, b = self, node(other)
        pulls = [(a, lambda g: fitted(g / b.value, a)), (b, lambda g: fitted(-g * a.value / b.value**2, b))]
        return Node(a.value / b.value, pulls)

    def __matmul__(self, other: "Node | ArrayLike") -> "Node":
        a, b = self, node(other)
        pulls = [
            (a, lambda g: fitted(g @ np.swapaxes(b.value, -1, -2), a)),
            (b, lambda g: fitted(np.swapaxes(a.value, -1, -2) @ g, b)),
        ]
        return Node(a.value @ b.value, pulls)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> "Node":
        return self * -1.0

    def __sub__(self, other: "Node | ArrayLike") -> "Node":
        return self + (-node(other))

    def __rsub__(self, other: ArrayLike) -> "Node":
        return node(other) + (-self)

    def __getitem__(self, places: Any) -> "Node":
        """Any indexing of NumPy, look-ups by integer arrays among it: gradients of repeated places add up."""

        def put_back(flow: Array) -> Array:
            gradient = np.zeros(self.shape)
            np.add.at(gradient, places, flow)
            return gradient

        return Node(self.value[places], [(self, put_back)])

    def sum(self, axis: int | tuple[int, ...], *, keepdims: bool = False) -> "Node":
        """Sum along axes."""

        def spread(flow: Array) -> Array:
            return np.broadcast_to(flow if keepdims else np.expand_dims(flow, axis), self.shape)

        return Node(self.value.sum(axis=axis, keepdims=keepdims), [(self, spread)])

    def mean(self, axis: int, *, keepdims: bool = False) -> "Node":
        """Mean along an axis."""
        return self.sum(axis, keepdims=keepdims) / self.shape[axis]

    def reshape(self, *shape: int) -> "Node":
        """The same numbers in another shape."""
        return Node(self.value.reshape(shape), [(self, lambda g: g.reshape(self.shape))])

    def swapped(self, one: int, other: int) -> "Node":
        """Two axes exchanged."""
        return Node(np.swapaxes(self.value, one, other), [(self, lambda g: np.swapaxes(g, one, other))])


def node(value: "Node | ArrayLike") -> Node:
    """A node as it is, anything else as a constant."""
    return value if isinstance(value, Node) else Node(value)


def fitted(gradient: Array, operand: Node) -> Array:
    """Sum a gradient over the axes along which its operand was broadcast."""
    gradient = gradient.sum(axis=tuple(range(gradient.ndim - operand.value.ndim)))
    stretched = tuple(axis for axis, size in enumerate(operand.shape) if size == 1 and gradient.shape[axis] > 1)
    return gradient.sum(axis=stretched, keepdims=True)


def elementwise(x: Node, value: Array, slope: Array) -> Node:
    """A function applied number by number, from its values and slopes."""
    return Node(value, [(x, lambda g: g * slope)])


def where(allowed: NDArray[np.bool_], x: "Node | ArrayLike", other: "Node | ArrayLike") -> Node:
    """`x` where allowed, else `other`; no gradient to what was not taken."""
    a, b = node(x), node(other)
    pulls = [(a, lambda g: fitted(np.where(allowed, g, 0), a)), (b, lambda g: fitted(np.where(allowed, 0, g), b))]
    return Node(np.where(allowed, a.value, b.value), pulls)


def concatenated(parts: Sequence[Node], axis: int) -> Node:
    """Parts one behind the other along an axis."""
    ends = np.cumsum([part.shape[axis] for part in parts])

    def part_of(number: int) -> PullBack:
        start = ends[number] - parts[number].shape[axis]
        return lambda g: np.take(g, np.arange(start, ends[number]), axis=axis)

    value = np.concatenate([part.value for part in parts], axis=axis)
    return Node(value, [(part, part_of(number)) for number, part in enumerate(parts)])


def largest(x: Node, axis: int) -> Node:
    """Maximum along an axis; the gradient goes to the first of equals."""
    places = np.expand_dims(np.argmax(x.value, axis=axis), axis)

    def put_back(flow: Array) -> Array:
        gradient = np.zeros(x.shape)
        np.put_along_axis(gradient, places, np.expand_dims(flow, axis), axis)
        return gradient

    return Node(x.value.max(axis=axis), [(x, put_back)])


def softmax(x: Node, axis: int, allowed: NDArray[np.bool_]) -> Node:
    """Softmax along an axis over what is allowed, 0 elsewhere; where nothing is allowed all is 0."""
    allowed = np.broadcast_to(allowed, x.shape)
    top = np.where(allowed, x.value, -np.inf).max(axis=axis, keepdims=True)
    powers = np.where(allowed, np.exp(np.where(allowed, x.value - np.where(np.isfinite(top), top, 0), 0)), 0)
    total = powers.sum(axis=axis, keepdims=True)
    p = powers / np.where(total > 0, total, 1)
    return Node(p, [(x, lambda g: p * (g - (g * p).sum(axis=axis, keepdims=True)))])


def stopped(x: Node) -> Node:
    """The value without its past: no gradient passes."""
    return Node(x.value)


def root(x: Node) -> Node:
    """Square root of what is not negative; no gradient at 0."""
    value = np.sqrt(x.value)
    return elementwise(x, value, np.where(value > 0, 0.5 / np.where(value > 0, value, 1), 0))


def gradients(ends: Iterable[tuple[Node, ArrayLike]], leaves: Mapping[str, Node]) -> dict[str, Array]:
    """Gradient at every leaf of the sum over ends of <flow, end>.

    Args:
        ends: nodes, each with the gradient that enters at it.
        leaves: by name; one that no end was computed from has gradient zero.

    Returns:
        Name -> array of the leaf's shape.
    """
    entering = [(end, np.broadcast_to(np.asarray(flow, np.float64), end.shape)) for end, flow in ends]
    flows: dict[int, Array] = {}
    for end, entered in entering:
        flows[id(end)] = entered + flows.get(id(end), 0.0)
    for place in reversed(_sorted([end for end, _ in entering])):
        if id(place) in flows:
            for parent, pull in place.parents:
                flows[id(parent)] = pull(flows[id(place)]) + flows.get(id(parent), 0.0)
    return {name: np.array(flows.get(id(leaf), np.zeros(leaf.shape))) for name, leaf in leaves.items()}


def _sorted(ends: Sequence[Node]) -> list[Node]:
    """Every node that the ends were computed from, each behind its parents."""
    order: list[Node] = []
    seen: set[int] = set()
    stack = [(end, False) for end in ends]
    while stack:
        place, is_done = stack.pop()
        if is_done:
            order.append(place)
        elif id(place) not in seen:
            seen.add(id(place))
            stack += [(place, True), *((parent, False) for parent, _ in place.parents)]
    return order
