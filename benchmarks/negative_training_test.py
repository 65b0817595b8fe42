"""Steps, minings, measuring, and resampled values whose differences are paired."""

import importlib

import numpy as np
import pytest

from benchmarks import negative_training, planted
from benchmarks.negative_strategies import STRATEGIES
from benchmarks.negative_training import COMPARED, REPORTED, SAMPLES, resampled, score, train
from retrieval_contract.data.prepare import prepare
from retrieval_contract.evaluation.measuring import Fractions
from retrieval_contract.stack import StepResult


@pytest.fixture(scope="module")
def planted_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    dataset = planted.write_dataset(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWO_TOWER_SHARED", str(folder))
        base = dataset.config()
        return base, prepare(base)


@pytest.fixture(scope="module")
def stack():
    return importlib.import_module("torch_reference.stack").STACK


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_trains(name, planted_run, stack):
    base, prepared = planted_run
    strategy = STRATEGIES[name]
    config = strategy.configured(base, value=strategy.values[1], seed=0)
    trained = train(stack, config, prepared, steps=4)
    assert not trained.failed and trained.times.wall[0] > 0
    assert trained.figures["seconds_per_epoch"] > 0
    assert (trained.figures["mining_seconds"] > 0) == (name == "mined")
    scored = score(stack, config, prepared, trained.weights, "validation")
    assert set(scored.metrics) == set(REPORTED) and not scored.resampled
    assert scored.metrics["recall@100"] == {"value": pytest.approx(0.9, abs=0.1), "low": None, "high": None}


def test_more_steps_learn_the_planted_groups(planted_run, stack):
    base, prepared = planted_run
    config = STRATEGIES["exact"].configured(base, value=0.15, seed=0)
    trained = train(stack, config, prepared, steps=40)
    scored = score(stack, base, prepared, trained.weights, "test", baselines=True)
    assert scored.metrics["recall@10"]["value"] > 0.4 > scored.baselines["popularity"]["recall@10"]["value"]
    assert scored.metrics["recall@10"]["low"] < scored.metrics["recall@10"]["value"]
    assert np.mean(scored.resampled["recall@10"]) == pytest.approx(scored.metrics["recall@10"]["value"], abs=0.01)


class _Trainer:
    def __init__(self, losses):
        self._losses, self.seen = iter(losses), []

    def step(self, batches, *, learning_rate):
        self.seen.append((batches[0], learning_rate))
        return StepResult(loss=next(self._losses), gradient_norm=1.0, temperature=0.5)

    def state(self):
        return {"weights/x": np.zeros(2, np.float32), "step": np.asarray(len(self.seen))}


class _Stack:
    def __init__(self, losses):
        self.made = _Trainer(losses)

    def trainer(self, config, sizes, state, catalogue):
        return self.made


def test_a_loss_that_is_not_finite_ends_the_run(planted_run):
    base, prepared = planted_run
    stack = _Stack([1.0, np.nan, 1.0])
    trained = train(stack, base, prepared, steps=3)
    assert "loss nan" in trained.failed and "step 2" in trained.failed and len(stack.made.seen) == 2
    assert list(trained.weights) == ["x"]


def test_mining_is_spread_over_the_steps_and_used(planted_run, monkeypatch):
    base, prepared = planted_run
    config = STRATEGIES["mined"].configured(base, value=0.07, seed=0)
    asked = []
    rows = np.full((len(prepared.queries.ids), 91), 129, np.int32)

    def mine(stack, config, prepared, weights):
        asked.append(len(stack.made.seen))
        return rows

    monkeypatch.setattr(negative_training, "mine", mine)
    stack = _Stack([1.0] * 12)
    train(stack, config, prepared, steps=12)
    assert asked == [3, 6, 9]
    mined = [np.mean(batch.sampled.rows == 129) for batch, _ in stack.made.seen]
    assert max(mined[:3]) < 0.1 and min(mined[3:]) > 0.15


def test_the_learning_rate_follows_its_schedule_over_the_budget(planted_run):
    base, prepared = planted_run
    optimizer = base.optimizer.model_copy(update={"warmup_steps": 3})
    stack = _Stack([1.0] * 20)
    train(stack, base.model_copy(update={"optimizer": optimizer}), prepared, steps=20)
    rates = [rate for _, rate in stack.made.seen]
    assert rates[0] < rates[1] < rates[2] == optimizer.learning_rate and rates[-1] == 0


def test_resampled_differences_are_of_the_same_queries():
    generator = np.random.default_rng(0)
    hits = {name: (generator.random(400) < 0.3).astype(float) for name in COMPARED}
    more = {name: np.maximum(values, np.arange(400) < 8) for name, values in hits.items()}
    below = np.ones(400)
    low, high = (resampled(Fractions(above=above, below=below), seed=5) for above in (hits, more))
    for name in COMPARED:
        differences = np.subtract(high[name], low[name])
        gain = more[name].mean() - hits[name].mean()
        assert len(differences) == SAMPLES
        assert differences.mean() == pytest.approx(gain, abs=0.003)
        assert differences.std() < 0.4 * np.std(low[name])
    other = resampled(Fractions(above=hits, below=below), seed=6)
    assert other != low
