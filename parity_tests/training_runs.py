"""Twenty steps of a trainer, in three corners: what rung 5 compares.

A plan is a case and an optimiser; every corner starts at the same state and is given the same batches, which leave rows
out and take them up again, at a learning rate that changes from step to step.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from parity_tests.comparing import assert_same
from parity_tests.oracles import optimizers
from parity_tests.planted_batches import make_batch
from parity_tests.problems import Problem, problem
from parity_tests.tolerances import rule
from retrieval_contract.arrays import Batch
from retrieval_contract.config import RunConfig
from retrieval_contract.stack import StepResult, Trainer
from tfrs_models.training.trainer import TwoTowerTrainer as TfTrainer
from torch_reference.training.trainer import TwoTowerTrainer as TorchTrainer

NUM_STEPS = 20
TRAINERS: Mapping[str, Any] = {"tf": TfTrainer, "torch": TorchTrainer}
ROOMS = {"weights": ("weights/", "average/", "bank/"), "slots": ("slots/",)}
"""Rules by which the parts of a state are compared: an average and a bank are as good as the weights they come from."""
COUNTED = ("step", "bank/enqueued", "bank/rows")
"""Whole numbers, which must be equal."""

State = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """What is trained; two plans are the same only where they are one."""

    case: str
    """A name in `cases.EVERY_CASE`."""
    optimizer: dict[str, Any] = field(default_factory=dict)
    """Settings that differ from the defaults."""
    num_steps: int = NUM_STEPS
    rate: float = 0.05
    """Learning rate of the first step."""

    @functools.cached_property
    def problem(self) -> Problem:
        """Weights and configuration that it starts from."""
        return problem(self.case, optimizer=self.optimizer)

    def learning_rate(self, step: int) -> float:
        """Falls to half on the way."""
        return self.rate * (1 - step / (2 * NUM_STEPS))


@dataclass(frozen=True)
class Run:
    """States after 0, 1, ... steps, and what each step reported."""

    states: Sequence[State]
    losses: list[float]
    norms: list[float]
    temperatures: list[float]


def batches(config: RunConfig, step: int, *, weights: str = "varied") -> list[Batch]:
    """The batches of a step."""
    count = config.optimizer.accumulation_steps
    return [make_batch(config, seed=step * count + place, weights=weights) for place in range(count)]


def start(small: Problem) -> dict[str, NDArray[Any]]:
    """Zero steps taken: the types that the contract has."""
    types = {"step": np.int64, "bank/enqueued": np.int64, "bank/rows": np.int32}
    state = optimizers.initial_state(small.config, small.weights)
    return {name: array.astype(types.get(name, np.float32)) for name, array in state.items()}


def trainer(corner: str, plan: Plan, state: State) -> Trainer:
    """A stack's trainer at a state."""
    small = plan.problem
    made: Trainer = TRAINERS[corner](small.config, small.sizes, state, small.catalogue)
    return made


@functools.cache
def trained(corner: str, plan: Plan) -> Run:
    """Run a stack for all steps; TensorFlow compiles once a plan."""
    made = trainer(corner, plan, start(plan.problem))
    states, results = [made.state()], []
    for step in range(plan.num_steps):
        results.append(made.step(batches(plan.problem.config, step), learning_rate=plan.learning_rate(step)))
        states.append(made.state())
    return Run(states, *_reports(results))


def by_hand(plan: Plan, *, num_steps: int | None = None) -> Run:
    """The oracle's run."""
    small = plan.problem
    states: list[State] = [optimizers.initial_state(small.config, small.weights)]
    results = []
    for number in range(plan.num_steps if num_steps is None else num_steps):
        step = oracle_step(small, states[-1], number, plan.learning_rate(number))
        states.append(step.state)
        results.append(StepResult(loss=step.loss, gradient_norm=step.norm, temperature=step.temperature))
    return Run(states, *_reports(results))


def oracle_step(small: Problem, state: State, number: int, rate: float) -> optimizers.Step:
    """One step of the oracle from any state, on the batches of a number."""
    steps = batches(small.config, number)
    return optimizers.take_step(small.config, small.table, state, steps, learning_rate=rate, catalogue=small.catalogue)


Room = Literal["step", "deep_step", "drift"]
"""Rules of a comparison: one step, one step of towers with norms, many steps."""


def compare(tf: State, torch: State, truth: State, room: Room) -> None:
    """States of three corners: numbers by the rules of rung 5, whole numbers exactly."""
    for name in (name for name in COUNTED if name in truth):
        wanted = truth[name].astype(np.int64)
        assert np.array_equal(tf[name], wanted), f"{name}: tf has {tf[name]}, not {wanted}"
        assert np.array_equal(torch[name], wanted), f"{name}: torch has {torch[name]}, not {wanted}"
    for part, prefixes in ROOMS.items():
        corners = (_numbers(tf, prefixes), _numbers(torch, prefixes), _numbers(truth, prefixes))
        assert_same(*corners, rule(f"{room}_{part}", "float32"))


def assert_run_noticed(wrong: State, plan: Plan, *, num_steps: int = 1, first: Room = "step") -> None:
    """Raise unless a wrong state after some steps is noticed in the place of either stack; `first` judges one step."""
    room: Room = first if num_steps == 1 else "drift"
    tf, torch = (trained(corner, plan).states[num_steps] for corner in TRAINERS)
    truth = by_hand(plan, num_steps=num_steps).states[num_steps]
    compare(tf, torch, truth, room)
    for corners in ((wrong, torch, truth), (tf, wrong, truth)):
        with pytest.raises(AssertionError):
            compare(*corners, room)


def assert_not_finite_moves_nothing(corner: str, plan: Plan) -> None:
    """Raise unless a step whose last batch has NaN leaves every byte of the state."""
    made = trainer(corner, plan, start(plan.problem))
    made.step(batches(plan.problem.config, 0), learning_rate=plan.rate)
    before = made.state()
    *good, last = batches(plan.problem.config, 1)
    bad = replace(last, log_q=np.full_like(last.log_q, np.nan))
    assert not np.isfinite(made.step([*good, bad], learning_rate=plan.rate).loss)
    after = made.state()
    assert {name: array.tobytes() for name, array in after.items()} == {
        name: array.tobytes() for name, array in before.items()
    }


def _numbers(state: State, prefixes: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    return {name: array for name, array in state.items() if name.startswith(prefixes) and name not in COUNTED}


def _reports(results: list[StepResult]) -> tuple[list[float], list[float], list[float]]:
    return (
        [result.loss for result in results],
        [result.gradient_norm for result in results],
        [result.temperature for result in results],
    )
