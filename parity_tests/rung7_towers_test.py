"""Rung 7 in small: every tower beyond the mean of a history, trained in both stacks by one configuration.

Slow; run by `make parity`. The data is simulated, so nothing but time is needed. Nothing is dropped out: what is drawn
is drawn by the contract, and the stacks differ by rounding alone. MIND alone draws its routing anew for every batch,
from each framework's own generator: there the stacks agree as two seeds do.
"""

import functools
import json

import pytest

from parity_tests.tolerances import QUALITY_OF_DRAWN_ROUTING, QUALITY_OF_TOWERS
from retrieval_contract.config import (
    ComiRecPooling,
    Evaluation,
    GruPooling,
    HistoryFeature,
    IdFeature,
    MindPooling,
    Model,
    Optimizer,
    RunConfig,
    SimulatedSource,
    Tower,
    Training,
    TransformerPooling,
)
from retrieval_contract.config_text import with_settings
from retrieval_contract.feature_presets import video, video_context
from retrieval_contract.runs.training import train_run
from retrieval_contract.runs.workdir import Workdir
from tfrs_models.stack import STACK as TF_STACK
from torch_reference.stack import STACK as TORCH_STACK

STACKS = {"tf": TF_STACK, "torch": TORCH_STACK}
EVALUATION = Evaluation(bootstrap_samples=10, baselines=("popularity",))
SMALL_VIDEO = (
    *("source.num_queries=500", "source.num_candidates=400", "source.num_interactions=12000"),
    *("query.dropout=0.0", "candidate.dropout=0.0", "training.epochs=3", "training.batch_size=128"),
    *("training.device=cpu", "evaluation.bootstrap_samples=10", "evaluation.baselines=[popularity]"),
)

pytestmark = [pytest.mark.quality, pytest.mark.timeout(3_600)]


def sequential(pooling, *, learning_rate=0.01, **training):
    """A history alone, over the candidate's own table."""
    history = HistoryFeature(name="history", width=32, max_length=20, shares=True, pooling=pooling)
    return RunConfig(
        source=SimulatedSource(num_queries=600, num_candidates=400, num_interactions=15_000),
        query=Tower(features=(history,)),
        candidate=Tower(features=(IdFeature(name="candidate_id", width=32),)),
        model=Model(dim=32),
        optimizer=Optimizer(kind="adam", learning_rate=learning_rate),
        training=Training(**{"epochs": 3, "batch_size": 128, "device": "cpu"} | training),
        evaluation=EVALUATION,
    )


RUNS = {
    "gru": sequential(GruPooling()),
    # At a rate of 0.01 rounding grows without bound behind some hundred steps of two blocks, in one stack as in two.
    "transformer": sequential(
        TransformerPooling(num_blocks=2), learning_rate=0.002, positions="all", batch_size=16, epochs=5
    ),
    "comirec": sequential(ComiRecPooling(num_interests=3, attention_dim=16)),
    "mind": sequential(MindPooling(num_interests=3)),
    "context": with_settings(video_context(), SMALL_VIDEO),
    "video": with_settings(video(), SMALL_VIDEO),
}
TOLERANCES = dict.fromkeys(RUNS, QUALITY_OF_TOWERS) | {"mind": QUALITY_OF_DRAWN_ROUTING}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Metrics of a run in a stack, with some settings changed; each is trained once."""

    @functools.cache
    def train(stack, name, *settings):
        folder = tmp_path_factory.mktemp(f"{stack}_{name}") / "run"
        config = with_settings(RUNS[name], settings)
        report = train_run(STACKS[stack], config, Workdir(folder), resume=False, overwrite=False)
        found = json.loads(report.to_json())["metrics"]
        values = {metric: found[metric]["value"] for metric in QUALITY_OF_TOWERS}
        print(f"\n{name:<12}{stack:<6}", *settings, *(f"{metric} {value:.5f}" for metric, value in values.items()))
        return values

    return train


def are_alike(one, other, name):
    """All metrics lie within the run's tolerances."""
    return all(abs(one[metric] - other[metric]) <= most for metric, most in TOLERANCES[name].items())


@pytest.mark.parametrize("name", RUNS)
def test_both_stacks_end_alike(measured, name):
    tf, torch = measured("tf", name), measured("torch", name)
    assert are_alike(tf, torch, name), (tf, torch)


@pytest.mark.parametrize("name", ["gru", "transformer", "comirec", "context", "video"])
def test_rung7_towers_notices_another_seed(measured, name):
    assert not are_alike(measured("tf", name), measured("torch", name, "seed=1"), name)


@pytest.mark.parametrize("name", ["mind", "gru"])
def test_rung7_towers_notices_a_dropped_log_q(measured, name):
    assert not are_alike(measured("tf", name), measured("torch", name, "loss.log_q=none"), name)
