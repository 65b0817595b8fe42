"""One optimiser step at a time, and everything that the next one depends on."""

import contextlib
import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any, final

import torch
from torch import Tensor

from retrieval_contract.arrays import AnyArray, Batch
from retrieval_contract.config import RunConfig
from retrieval_contract.errors import UserError
from retrieval_contract.stack import StepResult, TrainerState
from retrieval_contract.weights.names import VocabularySizes, parameter_table
from torch_reference.inputs import batch_tensors, choose_device
from torch_reference.training.clipping import Gradients, clip_by_global_norm
from torch_reference.training.model import RetrievalModel
from torch_reference.training.optimizers import make_optimizer
from torch_reference.weights import assign, assign_slots, extract, extract_slots, parameters_by_name

WEIGHTS, SLOTS, STEP = "weights/", "slots/", "step"


@final
class TwoTowerTrainer:
    """Model and optimiser at a step; a function of configuration, state and batches only.

    Dropout of a batch is drawn from (config.seed, step, place of the batch in its step), and operations are the
    deterministic ones, so that a trainer built from `state()` goes on with the same bytes.
    """

    def __init__(self, config: RunConfig, sizes: VocabularySizes, state: TrainerState) -> None:
        """Build at the given state.

        Args:
            config: the run.
            sizes: rows V of each vocabulary by side and feature name.
            state: `TrainerState`; at step 0 slots may be left out, and then start where the optimiser says.

        Raises:
            UserError: names or shapes of the state are not the model's; or no GPU where one is asked for.
        """
        self._config = config
        self._device = choose_device(config.training.device)
        self._model = RetrievalModel(config, sizes).to(self._device).train()
        self._variables = parameters_by_name(self._model.towers)
        self._optimizer = make_optimizer(config.optimizer, self._variables, parameter_table(config, sizes))
        self._step = self._restore(state)

    def step(self, batches: Sequence[Batch], *, learning_rate: float) -> StepResult:
        """Take one optimiser step on the mean gradient of the batches.

        Args:
            batches: the step's batches, one or more.
            learning_rate: of this step.

        Returns:
            Mean loss before the step, and the norm of the mean gradient before clipping. Where either is not finite,
            nothing has moved: weights, slots, nor the step.
        """
        assert batches, "a step needs a batch"
        with _deterministic():
            loss = self._backward(batches)
            gradients, norm = clip_by_global_norm(self._take_gradients(), self._config.optimizer.clip_norm)
            if math.isfinite(loss) and math.isfinite(norm):
                self._optimizer.apply(gradients, step=self._step + 1, learning_rate=learning_rate)
                self._step += 1
        return StepResult(loss=loss, gradient_norm=norm)

    def state(self) -> dict[str, AnyArray]:
        """Copy out weights, slots and step (`TrainerState`)."""
        weights = extract(self._model.towers)
        slots = extract_slots(self._model.towers, self._optimizer.slots)
        return {
            **{WEIGHTS + name: array for name, array in weights.items()},
            **{SLOTS + name: array for name, array in slots.items()},
            STEP: torch.tensor(self._step, dtype=torch.int64).numpy(),
        }

    def _restore(self, state: TrainerState) -> int:
        """Copy the state in and return its step."""
        known = (WEIGHTS, SLOTS, STEP)
        strange = [name for name in state if not name.startswith(known)]
        if strange or STEP not in state:
            what = f"left over: {', '.join(strange)}" if strange else f"missing: {STEP}"
            raise UserError(f"not a trainer state; {what}", where="checkpoint", todo="use another checkpoint")
        step, slots = int(state[STEP]), _named(state, SLOTS)
        assign(self._model.towers, _named(state, WEIGHTS))
        if step or slots:
            assign_slots(self._model.towers, self._optimizer.slots, slots)
        return step

    def _backward(self, batches: Sequence[Batch]) -> float:
        """Leave the mean gradient in `.grad`; return the mean loss."""
        losses = []
        for place, batch in enumerate(batches):
            loss = self._model.compute_loss(batch_tensors(batch, device=self._device), self._generator(place))
            (loss / len(batches)).backward()
            losses.append(loss.item())
        return math.fsum(losses) / len(losses) if all(map(math.isfinite, losses)) else math.nan

    def _take_gradients(self) -> Gradients:
        """Take `.grad` of every parameter, rows looked up twice summed."""
        gradients = {name: variable.grad for name, variable in self._variables.items() if variable.grad is not None}
        for variable in self._variables.values():
            variable.grad = None
        return {name: _summed(gradient) for name, gradient in gradients.items()}

    def _generator(self, place: int) -> torch.Generator:
        """The dropout draws of one batch: a stream keyed by seed, step and the batch's place in it."""
        key = f"{self._config.seed}/{self._step}/{place}".encode()
        seed = int.from_bytes(hashlib.blake2b(key, digest_size=7).digest(), "big")
        return torch.Generator(self._device).manual_seed(seed)


def _summed(gradient: Tensor) -> Tensor:
    return gradient.coalesce() if gradient.is_sparse else gradient


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
