"""A plain PyTorch loop as a contender: `nn.Embedding`, `nn.Sequential`, cross entropy, `torch.optim`."""

import itertools
from collections.abc import Callable
from functools import lru_cache, partial
from typing import final

import torch
from torch import Tensor, nn

from benchmarks.train_problem import LEARNING_RATES, WIDTHS, Array, Turn, timed

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    # Where Keras's and ours start; PyTorch's own default is 0.
    "adagrad": partial(torch.optim.Adagrad, initial_accumulator_value=0.1),
    "adam": torch.optim.Adam,
}


@final
class PlainTorch:
    """What one would write in ten minutes."""

    def __init__(self, optimizer: str, weights: dict[str, Array], rows: Array) -> None:
        """Build; arguments as of `train_ours.Ours`."""
        num_rows = len(weights["query.embedding.query_id"])
        self._towers = nn.ModuleDict({side: _tower(num_rows) for side in ("query", "candidate")})
        for side, tower in self._towers.items():
            named = [torch.from_numpy(array) for name, array in weights.items() if name.startswith(f"{side}.")]
            with torch.no_grad():
                for parameter, value in zip(tower.parameters(), named, strict=True):
                    parameter.copy_(value if parameter.shape == value.shape else value.T)
        self._optimizer = OPTIMIZERS[optimizer](self._towers.parameters(), lr=LEARNING_RATES[optimizer])
        self._rows, self._done = torch.from_numpy(rows).long(), 0

    def turn(self, num_steps: int) -> Turn:
        """Take steps."""
        return timed(lambda: [self._step() for _ in range(num_steps)])

    def _step(self) -> float:
        query_rows, candidate_rows = self._rows[self._done % len(self._rows)]
        self._done += 1
        self._optimizer.zero_grad()
        scores: Tensor = self._towers["query"](query_rows) @ self._towers["candidate"](candidate_rows).T
        loss = nn.functional.cross_entropy(scores, torch.arange(len(scores)))
        loss.backward()
        self._optimizer.step()
        return loss.item()


def _tower(num_rows: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Embedding(num_rows, WIDTHS[0])]
    for inputs, outputs in itertools.pairwise(WIDTHS):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def product(size: int) -> float:
    """Multiply two square matrices in float32; the operations that it took."""
    torch.matmul(_ones(size), _ones(size), out=_room(size))
    return 2.0 * size**3


@lru_cache(maxsize=1)
def _ones(size: int) -> Tensor:
    return torch.ones(size, size)


@lru_cache(maxsize=1)
def _room(size: int) -> Tensor:
    """Where the product goes: new memory each time would cost more than a tenth of it."""
    return torch.empty(size, size)
