"""Small problems: a model at given weights, a batch with every awkward corner, a catalogue, and a bank where asked for.

Weights and dense biases are drawn away from 0, so that no activation stands on its kink.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity_tests import cases, tower_cases
from parity_tests.planted_batches import catalogue_features, make_bank, make_batch, sizes_of
from retrieval_contract.arrays import BankColumns, Batch, FeatureArrays, Float32Array
from retrieval_contract.config import RunConfig
from retrieval_contract.weights.names import VocabularySizes, parameter_table
from retrieval_contract.weights.parameter import Parameter


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A model at given weights and what it is given."""

    config: RunConfig
    sizes: VocabularySizes
    weights: dict[str, Float32Array]
    batch: Batch
    catalogue: FeatureArrays
    """Encoded features of all candidates."""
    bank: BankColumns | None
    """Stored columns; None where the configuration has no bank."""

    @property
    def table(self) -> dict[str, Parameter]:
        """Canonical parameters."""
        return parameter_table(self.config, self.sizes)


def problem(case: str, *, weights: str = "varied", seed: int = 0, optimizer: dict[str, Any] | None = None) -> Problem:
    """Build the problem of a case.

    Args:
        case: a name in `EVERY_CASE` of `cases` or of `tower_cases`.
        weights: a name in `planted_batches.WEIGHTS`.
        seed: of the weights and of the numbers in the batch.
        optimizer: settings of the optimiser that differ from the defaults.
    """
    tree = (cases.EVERY_CASE | tower_cases.EVERY_CASE)[case]
    config = cases.config_of(tree, where=case, optimizer=optimizer)
    generator = np.random.default_rng([seed, len(case)])
    sizes = sizes_of(config)
    table = parameter_table(config, sizes)
    return Problem(
        config=config,
        sizes=sizes,
        weights={name: _start(generator, name, parameter) for name, parameter in table.items()},
        batch=make_batch(config, seed=seed, weights=weights),
        catalogue=catalogue_features(config),
        bank=make_bank(config, seed=seed) if config.negatives.bank.num_batches else None,
    )


def with_log_q(batch: Batch, log_q: NDArray[Any]) -> Batch:
    """The same batch with another log_q of its positives."""
    return replace(batch, log_q=log_q.astype(np.float32))


def with_settings(small: Problem, room: str, **settings: Any) -> Problem:
    """The same problem with other settings of a room of the configuration; combinations are not looked at."""
    changed = getattr(small.config, room).model_copy(update=settings)
    return replace(small, config=small.config.model_copy(update={room: changed}))


def with_weight(small: Problem, name: str, value: float) -> Problem:
    """The same problem with a parameter filled with a value."""
    return replace(small, weights=small.weights | {name: np.full_like(small.weights[name], value)})


def _start(generator: np.random.Generator, name: str, parameter: Parameter) -> Float32Array:
    """Normal values of size 1/2, the padding row of an embedding zero; a constant is moved by a tenth of that."""
    values = (generator.standard_normal(parameter.shape) / 2).astype(np.float32)
    if parameter.start == "constant":
        return (parameter.value + values / 10).astype(np.float32)
    if ".embedding." in name:
        values[0] = 0
    return values
