"""Several processes that train one run together: all compute the same, the first one writes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from retrieval_contract.config import RunConfig
from retrieval_contract.errors import RunError, UserError
from retrieval_contract.stack import Stack


@dataclass(frozen=True, slots=True)
class Replicas:
    """This process among all that train the run."""

    stack: Stack
    number: int
    """Of this process, from 0."""
    num_replicas: int
    """Processes that train together."""

    @classmethod
    def of(cls, stack: Stack) -> Self:
        """Read the environment.

        Raises:
            UserError: the environment says something that cannot be.
        """
        number, num_replicas = stack.replica()
        assert 0 <= number < num_replicas, "a replica is one of them"
        return cls(stack, number, num_replicas)

    @property
    def writes(self) -> bool:
        """True in the one process that writes files and shows progress."""
        return self.number == 0

    def check_config(self, config: RunConfig) -> None:
        """Make sure that a batch may be divided among the processes at all.

        Raises:
            UserError: several processes, and something that has to see a batch whole.
        """
        if self.num_replicas == 1:
            return
        normed = [f"{side}.norm" for side, tower in config.towers.items() if tower.norm == "batch"]
        if normed:
            raise UserError(
                f"{normed[0]}=batch normalises by all rows of a batch, which {self.num_replicas} processes divide",
                where=normed[0],
                todo="take layer, or train with one process",
            )
        if config.training.positions == "all":
            raise UserError(
                f"training.positions=all has several rows a sequence, and {self.num_replicas} processes divide batches "
                "by rows",
                where="training.positions",
                todo="take last, or train with one process",
            )

    def check_batch_size(self, batch_size: int) -> None:
        """Make sure that every replica gets as many rows of a batch as the others.

        Raises:
            UserError: the batch cannot be divided.
        """
        if batch_size % self.num_replicas:
            raise UserError(
                f"a batch of {batch_size:,} examples cannot be divided among {self.num_replicas} processes",
                where="training.batch_size",
                todo=f"take a multiple of {self.num_replicas}",
            )

    def any(self, flag: bool) -> bool:
        """True in every process where `flag` is true in one of them; all must come here."""
        return flag if self.num_replicas == 1 else self.stack.any_replica(flag)

    def alone(self, work: Callable[[], None]) -> None:
        """Let the writing process do some work while the others wait for it.

        Raises:
            RunError: in the others, where the work failed in the one that did it.
        """
        if not self.writes:
            if self.any(False):
                raise RunError(f"replica {self.number} stops: replica 0 could not go on, and says why")
            return
        try:
            work()
        except BaseException:
            self.any(True)
            raise
        self.any(False)
