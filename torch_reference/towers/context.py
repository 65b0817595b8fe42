"""Query and context as one vector. Letters: B queries in the batch, I interests, D vector width."""

from typing import Literal, final

import torch
from torch import Tensor, nn


@final
class ContextMerge(nn.Module):
    """`q + c`; or, gated, `g * q + (1 - g) * c` with `g = sigmoid([q, c] W + b)`, for each number."""

    def __init__(self, dim: int, kind: Literal["sum", "gate"], dtype: str = "float32") -> None:
        """Build the gate, where there is one.

        Args:
            dim: D.
            kind: sum or gate.
            dtype: of the computation.
        """
        super().__init__()
        self.gate = nn.Linear(2 * dim, dim, dtype=getattr(torch, dtype)) if kind == "gate" else None

    def forward(self, query_BD: Tensor, context_BD: Tensor) -> Tensor:
        """Merge.

        Args:
            query_BD: query vectors [B, D], or [B, I, D]; each interest meets the same context.
            context_BD: context vectors [B, D].

        Returns:
            Vectors of the queries' shape, not normalised.
        """
        if query_BD.ndim == 3:
            context_BD = context_BD.unsqueeze(1).expand_as(query_BD)
        if self.gate is None:
            return query_BD + context_BD
        gate_BD = torch.sigmoid(self.gate(torch.cat([query_BD, context_BD], dim=-1)))
        return gate_BD * query_BD + (1 - gate_BD) * context_BD
