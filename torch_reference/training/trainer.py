"""One optimiser step at a time, and everything that the next one depends on."""

import contextlib
import dataclasses
import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any, final

import torch
from torch import Tensor

from retrieval_contract.arrays import AnyArray, Batch, FeatureArrays
from retrieval_contract.config import RunConfig, Side
from retrieval_contract.data.shards import shard
from retrieval_contract.errors import UserError
from retrieval_contract.stack import StepResult, TrainerState
from retrieval_contract.weights.names import VocabularySizes, parameter_table
from torch_reference.inputs import BatchTensors, batch_tensors, choose_device, feature_tensors
from torch_reference.negatives.bank import NegativeBank
from torch_reference.negatives.columns import Columns
from torch_reference.negatives.replicas import gathered, num_replicas, replica, summed
from torch_reference.training.cached_gradient import Draws, backward
from torch_reference.training.clipping import Gradients, clip_by_global_norm
from torch_reference.training.model import RetrievalModel
from torch_reference.training.momentum import MovingAverage
from torch_reference.training.optimizers import make_optimizer
from torch_reference.weights import (
    assign,
    assign_bank,
    assign_slots,
    extract,
    extract_bank,
    extract_slots,
    parameters_by_name,
)

WEIGHTS, SLOTS, STEP = "weights/", "slots/", "step"
BANK, AVERAGE = "bank/", "average/"


@final
class TwoTowerTrainer:
    """Model and optimiser at a step; a function of configuration, state and batches only.

    Dropout of a batch is drawn from (config.seed, step, place of the batch in its step; in chunks also side and chunk),
    and operations are the deterministic ones, so that a trainer built from `state()` goes on with the same bytes.

    Where several processes train together (`torch.distributed` is initialised), each is given the whole batches and
    takes its own rows, and all stand at the same state after every step.
    """

    def __init__(
        self,
        config: RunConfig,
        sizes: VocabularySizes,
        state: TrainerState,
        catalogue: FeatureArrays | None = None,
    ) -> None:
        """Build at the given state.

        Args:
            config: the run.
            sizes: rows V of each vocabulary by side and feature name.
            state: `TrainerState`; at step 0 slots, bank and average may be left out, and then start where the
                optimiser says, empty, and at the weights.
            catalogue: encoded features of all candidates; the losses full_softmax and gbce need it.

        Raises:
            UserError: names or shapes of the state are not the model's; no GPU where one is asked for; or batch norm
                with several processes.
        """
        if num_replicas() > 1:
            _refuse_batch_norm(config)
        self._config = config
        self._device = choose_device(config.training.device)
        tensors = None if catalogue is None else feature_tensors(catalogue, device=self._device)
        self._model = RetrievalModel(config, sizes, catalogue=tensors).to(self._device).train()
        self._variables = parameters_by_name(self._model.towers)
        self._optimizer = make_optimizer(config.optimizer, self._variables, parameter_table(config, sizes))
        self._bank = self._empty_bank()
        self._step = self._restore(state)

    def step(self, batches: Sequence[Batch], *, learning_rate: float) -> StepResult:
        """Take one optimiser step on the mean gradient of the batches.

        Args:
            batches: the step's batches, one or more, whole on every replica.
            learning_rate: of this step.

        Returns:
            Mean loss before the step, the norm of the mean gradient before clipping, and the temperature. Where loss
            or norm is not finite, nothing has moved: weights, slots, bank, average, nor the step.
        """
        assert batches, "a step needs a batch"
        with _deterministic():
            temperature = torch.as_tensor(self._model.towers.temperature()).item()
            tensors = [batch_tensors(own_rows(batch), device=self._device) for batch in batches]
            loss, positives = self._backward(tensors)
            gradients, norm = clip_by_global_norm(self._take_gradients(), self._config.optimizer.clip_norm)
            if math.isfinite(loss) and math.isfinite(norm):
                self._optimizer.apply(gradients, step=self._step + 1, learning_rate=learning_rate)
                for batch_norm in self._model.towers.batch_norms():
                    batch_norm.commit()
                self._step += 1
                self._enqueue(tensors, positives)
        return StepResult(loss=loss, gradient_norm=norm, temperature=temperature)

    def state(self) -> dict[str, AnyArray]:
        """Copy out weights, slots, step, bank and average (`TrainerState`)."""
        towers = self._model.towers
        average = {} if self._average is None else extract_slots(towers, {"average": self._average.tensors})
        bank = {} if self._bank is None else extract_bank(self._bank)
        return {
            **{WEIGHTS + name: array for name, array in extract(towers).items()},
            **{SLOTS + name: array for name, array in extract_slots(towers, self._optimizer.slots).items()},
            **{BANK + name: array for name, array in bank.items()},
            **average,
            STEP: torch.tensor(self._step, dtype=torch.int64).numpy(),
        }

    def _restore(self, state: TrainerState) -> int:
        """Copy the state in and return its step."""
        known = (WEIGHTS, SLOTS, STEP, *((BANK,) if self._bank else ()), *((AVERAGE,) if self._has_average else ()))
        strange = [name for name in state if not name.startswith(known)]
        if strange or STEP not in state:
            what = f"left over: {', '.join(strange)}" if strange else f"missing: {STEP}"
            raise UserError(f"not a trainer state; {what}", where="checkpoint", todo="use another checkpoint")
        towers, step = self._model.towers, int(state[STEP])
        assign(towers, _named(state, WEIGHTS))
        slots, bank = _named(state, SLOTS), _named(state, BANK)
        if step or slots:
            assign_slots(towers, self._optimizer.slots, slots)
        if self._bank is not None and (step or bank):
            assign_bank(self._bank, bank)
        # A copy of the weights, so it is made behind them.
        momentum = self._config.negatives.bank.momentum
        self._average = None if momentum is None else MovingAverage(towers, momentum)
        averages = {name: array for name, array in state.items() if name.startswith(AVERAGE)}
        if self._average is not None and (step or averages):
            assign_slots(towers, {"average": self._average.tensors}, averages)
        return step

    def _backward(self, batches: Sequence[BatchTensors]) -> tuple[float, list[Columns]]:
        """Leave the mean gradient of this replica's rows in `.grad`; return the mean loss of all, and the positives."""
        bank = self._bank_columns()
        losses, positives = [], []
        for place, batch in enumerate(batches):
            loss, columns = backward(
                self._model,
                batch,
                bank=bank,
                draws=self._draws(place),
                chunk_size=self._config.training.chunk_size,
                scale=1 / len(batches),
            )
            losses.append(loss)
            positives.append(columns)
        values = summed(torch.stack(losses)).tolist()
        return math.fsum(values) / len(values) if all(map(math.isfinite, values)) else math.nan, positives

    def _take_gradients(self) -> Gradients:
        """Take `.grad` of every parameter, rows looked up twice summed, and the replicas' summed."""
        gradients = {name: variable.grad for name, variable in self._variables.items() if variable.grad is not None}
        for variable in self._variables.values():
            variable.grad = None
        return {name: summed(_coalesced(gradient)) for name, gradient in gradients.items()}

    def _empty_bank(self) -> NegativeBank | None:
        settings, model = self._config.negatives.bank, self._config.model
        if not settings.num_batches:
            return None
        num_places = settings.num_batches * self._config.training.batch_size
        return NegativeBank(num_places, model.dim, model.candidate_bias, device=self._device)

    @property
    def _has_average(self) -> bool:
        return self._config.negatives.bank.momentum is not None

    def _bank_columns(self) -> Columns | None:
        """Columns of earlier steps; none during the warm-up or as long as there are none."""
        if self._bank is None or self._step < self._config.negatives.bank.warmup_steps:
            return None
        columns = self._bank.columns()
        return columns if len(columns.rows_N) else None

    def _enqueue(self, batches: Sequence[BatchTensors], positives: Sequence[Columns]) -> None:
        """Put the step's positives in the bank, after the step that they were scored in."""
        if self._bank is None:
            return
        if self._average is not None:
            self._average.update()
        for batch, columns in zip(batches, positives, strict=True):
            self._bank.enqueue(columns if self._average is None else self._averaged(self._average, batch, columns))

    @staticmethod
    def _averaged(average: MovingAverage, batch: BatchTensors, columns: Columns) -> Columns:
        """The same columns with the vectors and biases of the average tower."""
        vectors_BD, bias_B = average.encode_candidate(batch["candidate_features"])
        gathered_B = None if bias_B is None else gathered(bias_B)
        return dataclasses.replace(columns, vectors_ND=gathered(vectors_BD), bias_N=gathered_B)

    def _draws(self, place: int) -> Draws:
        """The dropout draws of one batch: a stream keyed by seed, step, the batch's place in it, and what is drawn."""

        def draws(side: Side | None = None, chunk: int = 0) -> torch.Generator:
            key = f"{self._config.seed}/{self._step}/{place}"
            if side is not None:
                key += f"/{side}/{chunk}"
            if num_replicas() > 1:
                key += f"/replica {replica()}"
            seed = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=7).digest(), "big")
            return torch.Generator(self._device).manual_seed(seed)

        return draws


def _refuse_batch_norm(config: RunConfig) -> None:
    """Each replica would normalise by its own rows, and the gradient would not be that of the whole batch."""
    for side, tower in config.towers.items():
        if tower.norm == "batch":
            what = f"norm is batch, and {num_replicas()} processes train together, each of which sees its own rows"
            raise UserError(what, where=f"{side}.norm", todo="use layer, or train in one process")


def _coalesced(gradient: Tensor) -> Tensor:
    return gradient.coalesce() if gradient.is_sparse else gradient


def own_rows(batch: Batch) -> Batch:
    """This replica's part of a batch; all of it in one process."""
    return batch if num_replicas() == 1 else shard(batch, replica(), num_replicas())


def _named(state: TrainerState, prefix: str) -> dict[str, AnyArray]:
    return {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    """Deterministic operations inside, the process as it was outside; filling new memory would only cost time."""
    settings: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    settings.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        settings.fill_uninitialized_memory = filled
