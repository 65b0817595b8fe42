"""The mined set that each epoch trains with: found at the start of its mining epoch, saved, read again on resuming."""

import re
from pathlib import Path
from typing import Final, final

import numpy as np

from retrieval_contract.arrays import AnyArray, Int32Array
from retrieval_contract.config import RunConfig
from retrieval_contract.data.batches import TrainingBatches
from retrieval_contract.data.prepare import PreparedData
from retrieval_contract.errors import UserError
from retrieval_contract.runs.checkpoints import same_run_digest, weights_of
from retrieval_contract.runs.mining import Weights, build_mining_index, mine
from retrieval_contract.runs.replicas import Replicas
from retrieval_contract.runs.workdir import Workdir
from retrieval_contract.stack import Trainer, TrainerState
from retrieval_contract.weights.archive import read_arrays, weights_digest, write_arrays

KEPT: Final = 2
"""Sets that stay: the older checkpoint that is kept may be an epoch behind the newest."""
ROWS: Final = "rows"
_NAME = re.compile(r"epoch_(\d{5})\.safetensors")


@final
class MinedSets:
    """Hands every epoch its mined set; does nothing where the run mines none.

    Epoch e > 0 with `e % every_epochs == 0` is a mining epoch: its set is found by the weights at its start, and holds
    until the next one. A run resumed inside an epoch reads the set of the last mining epoch; it could not be found
    again, as the weights have moved on. A run resumed exactly at the start of a mining epoch reads its set where these
    weights made it, and mines anew otherwise.
    """

    def __init__(
        self,
        replicas: Replicas,
        config: RunConfig,
        prepared: PreparedData,
        batches: TrainingBatches,
        workdir: Workdir,
    ) -> None:
        """Begin with no set.

        Args:
            replicas: who mines and saves, and who reads what was saved.
            config: the run; `check_mining` has passed it.
            prepared: its data.
            batches: are given each set.
            workdir: where sets are saved.
        """
        self._replicas, self._config, self._prepared = replicas, config, prepared
        self._batches, self._folder = batches, workdir.negatives
        self._run = same_run_digest(config)
        self._epoch = 0

    @property
    def on(self) -> bool:
        """True where the run mines."""
        return bool(self._config.negatives.mined.per_example)

    def rehearse(self, state: TrainerState) -> None:
        """Build the index once from the first weights, so that settings it cannot take are refused before training.

        Raises:
            UserError: settings of the index that do not go with the catalogue.
        """
        if self.on:
            self._replicas.alone(lambda: self._build_once(weights_of(state)))

    def mines_at(self, epoch: int, step: int) -> bool:
        """True where a set is found before this step of this epoch, from 0."""
        return self.on and epoch > 0 and step == 0 and epoch % self._config.negatives.mined.every_epochs == 0

    def enter(self, epoch: int, step: int, trainer: Trainer) -> None:
        """Give the batches the set of an epoch that is entered at a step, both from 0.

        Raises:
            UserError: the set of an epoch begun before is missing or damaged.
            RunError: the vectors of these weights cannot be searched.
        """
        wanted = epoch - epoch % self._config.negatives.mined.every_epochs
        if not self.on or wanted == self._epoch:
            return
        if self.mines_at(epoch, step):
            self._replicas.alone(lambda: self._find(epoch, weights_of(trainer.state())))
        self._batches.set_mined(self._saved(wanted))
        self._epoch = wanted

    def _build_once(self, weights: Weights) -> None:
        stack, sizes = self._replicas.stack, self._prepared.features.sizes
        encoders = stack.encoders(self._config, sizes, weights)
        build_mining_index(stack, self._config, self._prepared, encoders, digest=weights_digest(weights))

    def _find(self, epoch: int, weights: Weights) -> None:
        """Mine and save, unless these very weights have done so before a stop."""
        digest = weights_digest(weights)
        if self._stands(epoch, digest):
            return
        rows_QM = mine(self._replicas.stack, self._config, self._prepared, weights)
        # Sets of later epochs are left over from before the run was taken back to an older checkpoint.
        stale = [path for number, path in _saved_sets(self._folder) if number >= epoch]
        earlier = [path for number, path in _saved_sets(self._folder) if number < epoch]
        metadata = {
            "kind": "mined",
            "config_digest": self._config.digest(),
            "run_digest": self._run,
            "epoch": str(epoch),
            "weights_digest": digest,
        }
        write_arrays(self._path(epoch), {ROWS: rows_QM}, metadata)
        for path in (*stale, *earlier[: 1 - KEPT]):
            if path != self._path(epoch):
                path.unlink(missing_ok=True)

    def _stands(self, epoch: int, digest: str) -> bool:
        try:
            _, metadata = self._read(epoch)
        except UserError:
            return False
        return metadata.get("weights_digest") == digest

    def _saved(self, epoch: int) -> Int32Array:
        """The saved set of a mining epoch [Q, M]."""
        try:
            rows_QM, _ = self._read(epoch)
        except UserError as error:
            todo = "the run cannot go on from here without it; put the file back, or train again with --overwrite"
            what = f"the hard negatives mined for epoch {epoch + 1}: {error.what}"
            raise UserError(what, where=str(self._path(epoch)), todo=todo) from None
        return rows_QM

    def _read(self, epoch: int) -> tuple[Int32Array, dict[str, str]]:
        arrays, metadata = read_arrays(self._path(epoch))
        if metadata.get("run_digest") != self._run or metadata.get("epoch") != str(epoch):
            raise UserError("this set is another run's, or another epoch's")
        return _checked(arrays, self._shape), metadata

    @property
    def _shape(self) -> tuple[int, int]:
        mined = self._config.negatives.mined
        return len(self._prepared.queries.ids), mined.last_rank - mined.first_rank + 1

    def _path(self, epoch: int) -> Path:
        return self._folder / f"epoch_{epoch:05d}.safetensors"


def _checked(arrays: dict[str, AnyArray], shape: tuple[int, int]) -> Int32Array:
    rows_QM = arrays.get(ROWS)
    if rows_QM is None or rows_QM.shape != shape or rows_QM.dtype != np.int32:
        raise UserError(f"this set does not fit the data: int32 {shape} is wanted")
    return rows_QM.astype(np.int32, copy=False)


def _saved_sets(folder: Path) -> list[tuple[int, Path]]:
    """Saved sets with their epochs, oldest first."""
    if not folder.is_dir():
        return []
    found = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted((int(match[1]), path) for match, path in found if match)
