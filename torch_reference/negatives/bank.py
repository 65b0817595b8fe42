"""Cross-batch negatives: candidate vectors of earlier batches, without a gradient.

Letters: B queries in the batch, S places, D vector width, H pairs of a query and a place.
"""

import math
from collections.abc import Iterator
from typing import Any, cast, final

import torch
from torch import Tensor

from torch_reference.negatives.columns import Columns

_BLOCK = 1_024, 512
"""Rows and columns of the logits that are looked at together: two megabytes, which stay in a processor's cache."""


@final
class NegativeBank:
    """A ring of columns, each with the bias and the log_q of its time; the newest take the places of the oldest.

    Source: Wang et al., SIGIR 2021 (cross-batch negative sampling), section 3.3.
    """

    def __init__(self, num_places: int, dim: int, has_bias: bool, *, device: torch.device | str = "cpu") -> None:
        """Begin empty.

        Args:
            num_places: S.
            dim: width D of a vector.
            has_bias: whether columns have a candidate bias.
            device: where the ring lies.
        """
        assert num_places >= 1, num_places
        self.tensors = {
            "vectors": torch.zeros(num_places, dim, device=device),
            "rows": torch.zeros(num_places, dtype=torch.int64, device=device),
            "log_q": torch.zeros(num_places, device=device),
            **({"bias": torch.zeros(num_places, device=device)} if has_bias else {}),
            "enqueued": torch.zeros((), dtype=torch.int64),
        }
        """The state by name: [S, D], [S], [S], [S], and the number of columns ever enqueued; column number n lies in
        place n mod S."""

    def columns(self) -> Columns:
        """The filled places, in the ring's order; none are copied, so they hold until the next `enqueue`."""
        num_filled = min(int(self.tensors["enqueued"]), self._num_places)
        filled = {name: tensor[:num_filled] for name, tensor in self.tensors.items() if tensor.ndim}
        return Columns(filled["vectors"], filled["rows"], filled["log_q"], filled.get("bias"))

    @torch.no_grad()
    def enqueue(self, columns: Columns) -> None:
        """Put columns in, the last S of them where there are more.

        Args:
            columns: the positives of a batch; vectors of the bank's width, with a bias as the bank has one.
        """
        assert (columns.bias_N is None) == ("bias" not in self.tensors), "a bias in the bank or in the columns alone"
        num_columns, before = len(columns.rows_N), int(self.tensors["enqueued"])
        kept = slice(max(0, num_columns - self._num_places), num_columns)
        places = torch.arange(before + kept.start, before + num_columns) % self._num_places
        arrays = {
            "vectors": columns.vectors_ND,
            "rows": columns.rows_N,
            "log_q": columns.log_q_N,
            "bias": columns.bias_N,
        }
        for name, values in arrays.items():
            if values is not None:
                ring = self.tensors[name]
                ring.index_copy_(0, places.to(ring.device), values[kept].detach().to(ring.dtype))
        self.tensors["enqueued"] += num_columns

    @property
    def _num_places(self) -> int:
        return len(self.tensors["rows"])


def log_sum(scaled_BD: Tensor, vectors_SD: Tensor, added_S: Tensor, gone: tuple[Tensor, Tensor]) -> Tensor:
    """Logsumexp over the bank's logits, without the logits: `log sum_s exp(<q_i, v_s> + a_s)`.

    For the softmax it is all that a bank has to say: one column more, whose logit is this sum. Only queries have a
    gradient, and that is the mean of the vectors under the softmax, so it is taken on the way, block by block, while
    the block's logits are in the cache: no array [B, S] exists, and nothing is computed twice.

    Args:
        scaled_BD: query vectors divided by the temperature [B, D].
        vectors_SD: vectors of the bank [S, D]; no gradient is given to them.
        added_S: what is added to the logits of each place [S], bias less log_q; no gradient is given to it.
        gone: query and place of what is no negative, both [H].

    Returns:
        The sums [B]; -inf, with gradients 0, where nothing is left.

    Source:
        Milakov and Gimelshein, 2018 (online softmax), algorithm 3.
    """
    return cast(Tensor, _LogSum.apply(scaled_BD, vectors_SD, added_S, *gone))


class _LogSum(torch.autograd.Function):
    """The sum, and the weighted mean of vectors that is its gradient, in one pass."""

    @staticmethod
    def forward(
        ctx: Any, scaled_BD: Tensor, vectors_SD: Tensor, added_S: Tensor, queries_H: Tensor, places_H: Tensor
    ) -> Tensor:
        parts = [
            _row_block(scaled_BD[rows], vectors_SD, added_S, queries_H - rows.start, places_H)
            for rows in _slices(len(scaled_BD), _BLOCK[0])
        ]
        sums_B, means_BD = (torch.cat(part) for part in zip(*parts, strict=True))
        ctx.save_for_backward(means_BD)
        return sums_B

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (means_BD,) = ctx.saved_tensors
        gradient_B1 = gradients[0].unsqueeze(1)
        # Selected, not multiplied: a query that has no part in the loss may hold anything.
        return torch.where(gradient_B1 == 0, 0, gradient_B1 * means_BD), None, None, None, None


def _row_block(
    scaled_RD: Tensor, vectors_SD: Tensor, added_S: Tensor, queries_H: Tensor, places_H: Tensor
) -> tuple[Tensor, Tensor]:
    """Sums [R] and weighted means of vectors [R, D] of some queries; pairs of other queries are left out."""
    inside_H = (queries_H >= 0) & (queries_H < len(scaled_RD))
    order_H = places_H[inside_H].argsort(stable=True)
    queries_H, places_H = queries_H[inside_H][order_H], places_H[inside_H][order_H]
    largest_R1 = scaled_RD.new_full((len(scaled_RD), 1), -math.inf)
    sums_R1, means_RD = torch.zeros_like(largest_R1), torch.zeros_like(scaled_RD)
    block_RC = scaled_RD.new_empty(len(scaled_RD), _BLOCK[1])
    for columns in _slices(len(vectors_SD), _BLOCK[1]):
        vectors_CD = vectors_SD[columns]
        logits_RC = torch.addmm(added_S[columns], scaled_RD, vectors_CD.T, out=block_RC[:, : len(vectors_CD)])
        first, last = torch.searchsorted(places_H, places_H.new_tensor([columns.start, columns.stop])).tolist()
        logits_RC[queries_H[first:last], places_H[first:last] - columns.start] = -math.inf
        # Finite even where nothing is left so far: -inf - -inf would be NaN.
        before_R1 = largest_R1
        largest_R1 = torch.maximum(before_R1, logits_RC.amax(dim=1, keepdim=True)).clamp_(
            min=torch.finfo(scaled_RD.dtype).min
        )
        weights_RC = logits_RC.sub_(largest_R1).exp_()
        faded_R1 = before_R1.sub_(largest_R1).exp_()
        sums_R1.mul_(faded_R1).add_(weights_RC.sum(dim=1, keepdim=True))
        means_RD.mul_(faded_R1).addmm_(weights_RC, vectors_CD)
    smallest = torch.finfo(scaled_RD.dtype).tiny
    return (largest_R1 + sums_R1.log()).squeeze(1), means_RD / sums_R1.clamp(min=smallest)


def _slices(number: int, size: int) -> Iterator[slice]:
    for start in range(0, number, size):
        yield slice(start, min(start + size, number))
