"""A causal transformer over a history (SASRec).

Letters: B histories, L items, W width of an item, H heads, K width of a head, F hidden width of feed-forward.
"""

from typing import Any, cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from retrieval_contract import config
from torch_reference.layers.dense import ACTIVATIONS
from torch_reference.layers.dropout import BulkDropout
from torch_reference.layers.norm import LayerNorm
from torch_reference.layers.pooling import at_last_item, steps_back

_BLOCK_BYTES = 1 << 22
"""Attention weights that are worked on together: they stay in a processor's cache."""


@final
class TransformerPooling(nn.Module):
    """The last real place behind a stack of causal pre-norm blocks.

    `x = dropout(item + position)`; in every block `x += drop(attention(norm_1(x)))` and
    `x += drop(ff_1(drop(act(ff_0(norm_2(x))))))`; behind them a layer norm. Positions count back from the newest item.

    Source: Kang and McAuley, ICDM 2018 (SASRec), with the norm in front of each part and positions from the end.
    """

    def __init__(
        self,
        width: int,
        max_length: int,
        pooling: config.TransformerPooling,
        dtype: str = "float32",
    ) -> None:
        """Build the blocks.

        Args:
            width: W.
            max_length: longest history.
            pooling: numbers of blocks and heads, widths, dropout.
            dtype: of the computation.
        """
        super().__init__()
        self.position = nn.Parameter(torch.zeros(max_length, width, dtype=getattr(torch, dtype)))
        self._dropout = BulkDropout(pooling.dropout)
        self._blocks = nn.ModuleList(_Block(width, pooling, dtype) for _ in range(pooling.num_blocks))
        self._norm = LayerNorm(width, dtype)

    @property
    def parts(self) -> dict[str, tuple[Tensor, bool]]:
        """Canonical part -> tensor, and whether it is transposed."""
        table: dict[str, tuple[Tensor, bool]] = {"position": (self.position, False)}
        for number, block in enumerate(self._blocks):
            table |= {f"block.{number}.{name}": part for name, part in cast(_Block, block).parts.items()}
        return table | {f"norm.{name}": (tensor, False) for name, tensor in self._norm.parts.items()}

    def forward(self, items_BLW: Tensor, real_BL: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Pool.

        Args:
            items_BLW: items [B, L, W], zeros at padded places, which stand behind.
            real_BL: True where there is an item [B, L].
            generator: source of dropout.

        Returns:
            Vectors [B, W]; zeros for an empty history.
        """
        return at_last_item(self.places(items_BLW, real_BL, generator), real_BL)

    def places(self, items_BLW: Tensor, real_BL: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The vector of every item [B, L, W]; at padded places anything finite. Arguments as of `forward`.

        Padding stands behind, so that the causal mask alone keeps it from the items: none looks at a later place.
        """
        placed_BLW = items_BLW + functional.embedding(steps_back(real_BL), self.position)
        x_BLW = self._dropout(placed_BLW, generator)
        for block in self._blocks:
            x_BLW = block(x_BLW, generator)
        return cast(Tensor, self._norm(x_BLW))


@final
class _Block(nn.Module):
    """Attention and feed-forward, each behind a norm and added to its input."""

    def __init__(self, width: int, pooling: config.TransformerPooling, dtype: str) -> None:
        super().__init__()
        kind, hidden = getattr(torch, dtype), pooling.feed_forward_dim or width
        self._num_heads = pooling.num_heads
        self._activation = ACTIVATIONS[pooling.activation]
        self._dropout = BulkDropout(pooling.dropout)
        self._norms = nn.ModuleDict({name: LayerNorm(width, dtype) for name in ("norm_1", "norm_2")})
        shapes = {**dict.fromkeys(("query", "key", "value", "output"), (width, width)), "0": (width, hidden)}
        self._linears = nn.ModuleDict(
            {name: nn.Linear(*shape, dtype=kind) for name, shape in (shapes | {"1": (hidden, width)}).items()}
        )

    @property
    def parts(self) -> dict[str, tuple[Tensor, bool]]:
        """Canonical part -> tensor, and whether it is transposed."""
        table: dict[str, tuple[Tensor, bool]] = {}
        for name, norm in self._norms.items():
            table |= {f"{name}.{part}": (tensor, False) for part, tensor in cast(LayerNorm, norm).parts.items()}
        for name, module in self._linears.items():
            linear, prefix = cast(nn.Linear, module), f"feed_forward.{name}" if name.isdecimal() else name
            table |= {f"{prefix}.kernel": (linear.weight, True), f"{prefix}.bias": (linear.bias, False)}
        return table

    def forward(self, x_BLW: Tensor, generator: torch.Generator | None) -> Tensor:
        linears, norms = self._linears, self._norms
        attended_BLW = self._attention(norms["norm_1"](x_BLW), generator)
        x_BLW = x_BLW + self._dropout(linears["output"](attended_BLW), generator)
        hidden_BLF = self._dropout(self._activation(linears["0"](norms["norm_2"](x_BLW))), generator)
        return cast(Tensor, x_BLW + self._dropout(linears["1"](hidden_BLF), generator))

    def _attention(self, x_BLW: Tensor, generator: torch.Generator | None) -> Tensor:
        query, key, value = (self._heads(self._linears[name](x_BLW)) for name in ("query", "key", "value"))
        if self._dropout.is_active:
            (batch, num_heads, length, _), device = query.shape, x_BLW.device
            kept = self._dropout.kept(torch.Size((batch, num_heads, length, length)), device, generator)
            attended_BHLK = cast(Tensor, _DroppedAttention.apply(query, key, value, kept, self._dropout.scale))
        else:
            attended_BHLK = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return attended_BHLK.transpose(1, 2).reshape(x_BLW.shape)

    def _heads(self, x_BLW: Tensor) -> Tensor:
        """Contiguous slices of the width, [B, H, L, K]."""
        return x_BLW.view(*x_BLW.shape[:2], self._num_heads, -1).transpose(1, 2)


class _DroppedAttention(torch.autograd.Function):
    """`dropout(softmax(q k / sqrt(K))) v` under the causal mask, with a given choice of what is kept.

    torch's own attention takes its dropout from the global generator. A few histories are worked on at a time.
    """

    @staticmethod
    def forward(
        ctx: Any, query_BHLK: Tensor, key_BHLK: Tensor, value_BHLK: Tensor, kept_BHLL: Tensor, scale: float
    ) -> Tensor:
        length, width = query_BHLK.shape[2:]
        later_LL = torch.full((length, length), -torch.inf, dtype=query_BHLK.dtype, device=query_BHLK.device).triu(1)
        out_BHLK = torch.empty_like(query_BHLK, memory_format=torch.contiguous_format)
        shares_BHLL = query_BHLK.new_empty(kept_BHLL.shape)
        for rows in _blocks(query_BHLK):
            query_MLK, key_MLK, value_MLK = _flat(rows, query_BHLK, key_BHLK, value_BHLK)
            shares_MLL, kept_MLL = _flat(rows, shares_BHLL, kept_BHLL)
            scores_MLL = torch.baddbmm(later_LL, query_MLK, key_MLK.mT, alpha=width**-0.5)
            torch.softmax(scores_MLL, dim=2, out=shares_MLL)
            torch.mul(shares_MLL, kept_MLL.to(shares_MLL.dtype), out=scores_MLL)
            torch.bmm(scores_MLL, value_MLK, out=_flat(rows, out_BHLK)[0])
        ctx.save_for_backward(query_BHLK, key_BHLK, value_BHLK, kept_BHLL, shares_BHLL)
        ctx.scale = scale
        return out_BHLK.mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, kept_BHLL, shares_BHLL = ctx.saved_tensors
        found = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in inputs]
        for rows in _blocks(inputs[0]):
            query_MLK, key_MLK, value_MLK = _flat(rows, *inputs)
            to_query_MLK, to_key_MLK, to_value_MLK = _flat(rows, *found)
            up_MLK, shares_MLL, kept_MLL = _flat(rows, gradients[0], shares_BHLL, kept_BHLL)
            up_MLK, factor_MLL = up_MLK * ctx.scale, kept_MLL.to(shares_MLL.dtype)
            torch.bmm((shares_MLL * factor_MLL).mT, up_MLK, out=to_value_MLK)
            slopes_MLL = torch.bmm(up_MLK, value_MLK.mT).mul_(factor_MLL)
            slopes_MLL = torch._softmax_backward_data(slopes_MLL, shares_MLL, 2, shares_MLL.dtype)
            torch.bmm(slopes_MLL, key_MLK, out=to_query_MLK)
            torch.bmm(slopes_MLL.mT, query_MLK, out=to_key_MLK)
        for tensor in found[:2]:
            tensor.mul_(inputs[0].shape[-1] ** -0.5)
        return (*found, None, None)


def _flat(rows: slice, *arrays_BHLX: Tensor) -> list[Tensor]:
    """Some histories of each array, histories and heads in one dimension; views where the array is contiguous."""
    return [array[rows].reshape(-1, *array.shape[2:]) for array in arrays_BHLX]


def _blocks(query_BHLK: Tensor) -> list[slice]:
    """Slices of the histories whose attention weights fit in a cache."""
    batch, num_heads, length, _ = query_BHLK.shape
    size = max(1, _BLOCK_BYTES // (num_heads * length * length * query_BHLK.element_size()))
    return [slice(start, start + size) for start in range(0, batch, size)]
