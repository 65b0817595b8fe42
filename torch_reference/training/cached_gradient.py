"""The gradient of one batch: at once, or in chunks that keep the negatives of the whole batch.

Letters: B queries of this replica, A candidates that are encoded, N columns, D vector width.

Source: Gao et al., RepL4NLP 2021 (GradCache).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from retrieval_contract.config import Side
from torch_reference.inputs import BatchTensors, FeatureTensors
from torch_reference.negatives.columns import Columns
from torch_reference.training.model import Encoded, RetrievalModel, total_weight

Encode = Callable[[FeatureTensors, torch.Generator | None], tuple[Tensor, ...]]
"""Features and source of dropout -> vectors, and the candidate bias where there is one."""


class Draws(Protocol):
    """Where the dropout of a batch comes from."""

    def __call__(self, side: Side | None = None, chunk: int = 0) -> torch.Generator | None:
        """A generator at its start: of the whole batch, or of one chunk of one side."""
        ...


def no_draws(side: Side | None = None, chunk: int = 0) -> torch.Generator | None:
    """No generator, for evaluation mode."""
    return None


def backward(
    model: RetrievalModel,
    batch: BatchTensors,
    *,
    bank: Columns | None,
    draws: Draws,
    chunk_size: int | None,
    scale: float = 1.0,
) -> tuple[Tensor, Columns]:
    """Add the gradient of a batch's loss to `.grad` of the model's parameters.

    In chunks, all candidates and queries are encoded without a graph, the loss is differentiated by their vectors, row
    block by row block, and then each chunk is encoded again, with a graph, and given its part of that gradient. Memory
    follows the chunk, and the gradient is that of one shot: each row still meets all columns. Both encodings of a
    chunk draw the same dropout.

    Args:
        model: towers and task.
        batch: B examples, those of this replica.
        bank: columns of earlier batches.
        draws: source of dropout.
        chunk_size: entities encoded, and rows of the logits held, at a time; none encodes and scores all at once.
        scale: factor on the gradient.

    Returns:
        Loss of the batch without a graph, with replicas this one's part of it; and the positives of all replicas.
    """
    if chunk_size is not None:
        return _in_chunks(model, batch, bank, draws, chunk_size, scale)
    scored = model.score(batch, model.encode(batch, draws()))
    loss = model.loss_of(scored.rows, scored.columns, bank, total_weight(batch))
    (loss * scale).backward()
    return loss.detach(), scored.positives


@dataclass(frozen=True, slots=True)
class _Half:
    """One tower with what it has to encode."""

    side: Side
    encode: Encode
    features: FeatureTensors
    draws: Draws
    chunk_size: int

    def vectors(self) -> tuple[Tensor, ...]:
        """Encode everything without a graph; leaves that take a gradient."""
        with torch.no_grad():
            chunks = [self._encoded(place, start) for place, start in self._starts()]
        return tuple(torch.cat(parts).requires_grad_() for parts in zip(*chunks, strict=True))

    def backward(self, leaves: tuple[Tensor, ...]) -> None:
        """Encode every chunk again and give it its part of the leaves' gradient."""
        gradients = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
        for place, start in self._starts():
            parts = [gradient[start : start + self.chunk_size] for gradient in gradients]
            torch.autograd.backward(self._encoded(place, start), parts)

    def _starts(self) -> Iterator[tuple[int, int]]:
        num_rows = len(next(iter(self.features.values())))
        return enumerate(range(0, num_rows, self.chunk_size))

    def _encoded(self, place: int, start: int) -> tuple[Tensor, ...]:
        chunk = {name: values[start : start + self.chunk_size] for name, values in self.features.items()}
        return self.encode(chunk, self.draws(self.side, place))


def _in_chunks(
    model: RetrievalModel, batch: BatchTensors, bank: Columns | None, draws: Draws, chunk_size: int, scale: float
) -> tuple[Tensor, Columns]:
    towers = model.towers

    def encode_candidate(features: FeatureTensors, generator: torch.Generator | None) -> tuple[Tensor, ...]:
        bias_A = towers.candidate_bias(features)
        vectors_AD = towers.encode_candidate(features, generator)
        return (vectors_AD,) if bias_A is None else (vectors_AD, bias_A)

    def encode_query(features: FeatureTensors, generator: torch.Generator | None) -> tuple[Tensor, ...]:
        return (towers.encode_query(features, generator),)

    query = _Half("query", encode_query, batch["query_features"], draws, chunk_size)
    candidate = _Half("candidate", encode_candidate, model.candidate_features(batch), draws, chunk_size)
    (query_BD,), (candidate_AD, *bias_A) = query_leaves, candidate_leaves = query.vectors(), candidate.vectors()
    encoded = Encoded(query_BD, candidate_AD, bias_A[0] if bias_A else None)
    loss, positives = _by_row_blocks(model, batch, encoded, bank, chunk_size, scale)
    query.backward(query_leaves)
    candidate.backward(candidate_leaves)
    return loss, positives


def _by_row_blocks(
    model: RetrievalModel, batch: BatchTensors, encoded: Encoded, bank: Columns | None, chunk_size: int, scale: float
) -> tuple[Tensor, Columns]:
    """Leave the loss's gradient in `.grad` of the vectors; no more than `chunk_size` rows of logits at a time."""
    scored, total = model.score(batch, encoded), total_weight(batch)
    # The blocks meet the columns as leaves, so that what lies between them and the vectors (with replicas an exchange)
    # is gone back through once.
    ends = [scored.columns.vectors_ND] + ([] if scored.columns.bias_N is None else [scored.columns.bias_N])
    leaves = [end.detach().requires_grad_() for end in ends]
    columns = replace(scored.columns, vectors_ND=leaves[0], bias_N=leaves[1] if len(leaves) > 1 else None)
    losses = []
    for start in range(0, len(scored.rows), chunk_size):
        block = scored.rows.block(start, min(start + chunk_size, len(scored.rows)))
        loss = model.loss_of(block, columns, bank, total)
        (loss * scale).backward()
        losses.append(loss.detach())
    torch.autograd.backward(ends, [leaf.grad for leaf in leaves])
    return torch.stack(losses).sum(), scored.positives
