"""Rung 7: both stacks, trained on MovieLens 100K by the same configuration, are equally good.

Slow; run by `make parity`. Seeds are paired: one seed gives both stacks the same start and the same batches. Dropout is
each framework's own draw, so with it the stacks agree as two seeds do, and without it almost to the digit.
"""

import functools
import json
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from parity_tests.tolerances import QUALITY_CONFIDENCE, QUALITY_MARGINS, QUALITY_WITHOUT_DROPOUT
from retrieval_contract.config_text import with_settings
from retrieval_contract.presets import preset
from retrieval_contract.runs.training import train_run
from retrieval_contract.runs.workdir import Workdir
from tfrs_models.stack import STACK as TF_STACK
from torch_reference.stack import STACK as TORCH_STACK

SHARED = Path(os.environ.get("TWO_TOWER_SHARED", "../shared"))
DATA = SHARED / "data" / "ml-100k"
FEW_SEEDS = tuple(range(3))
SEEDS = tuple(range(9))
"""Dropout alone moves the difference of one seed by as much as the margins: three seeds are too few to tell."""
RUN = with_settings(preset("movielens_100k_files"), [f"source.data_dir={DATA}"])
"""The preset, read from files: the same rows, whatever a TFDS folder on this machine holds."""
WITHOUT_DROPOUT = ("query.feature_dropout=0.0", "candidate.feature_dropout=0.0", "training.epochs=6")
STACKS = {"tf": TF_STACK, "torch": TORCH_STACK}

pytestmark = [
    pytest.mark.quality,
    pytest.mark.timeout(3_600),
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no MovieLens 100K: {DATA} is not there"),
]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Metrics by name, a value a seed, of a stack with some settings changed."""

    @functools.cache
    def train(stack, *settings, seeds=FEW_SEEDS):
        values = {metric: [] for metric in QUALITY_MARGINS}
        for seed in seeds:
            config = with_settings(RUN, [f"seed={seed}", *settings])
            folder = tmp_path_factory.mktemp(f"{stack}_{seed}") / "run"
            report = train_run(STACKS[stack], config, Workdir(folder), resume=False, overwrite=False)
            found = json.loads(report.to_json())["metrics"]
            for metric in values:
                values[metric].append(found[metric]["value"])
        print(stack, settings, values)
        return {metric: np.array(numbers) for metric, numbers in values.items()}

    return train


def paired_interval(differences):
    """Student's interval of the mean difference."""
    reach = scipy.stats.t.ppf((1 + QUALITY_CONFIDENCE) / 2, len(differences) - 1)
    half = reach * np.std(differences, ddof=1) / np.sqrt(len(differences))
    return np.mean(differences) - half, np.mean(differences) + half


def is_equal(one, other, metric):
    """The paired interval contains 0, and the mean difference is inside the stated margin."""
    low, high = paired_interval(one[metric] - other[metric])
    return low <= 0 <= high and abs(np.mean(one[metric] - other[metric])) <= QUALITY_MARGINS[metric]


def largest_difference(one, other, metric):
    """Over the seeds."""
    return np.abs(one[metric] - other[metric]).max()


@pytest.mark.parametrize("metric", QUALITY_MARGINS)
def test_the_stacks_are_equally_good(measured, metric):
    tf, torch = measured("tf", seeds=SEEDS), measured("torch", seeds=SEEDS)
    assert is_equal(tf, torch, metric), (metric, tf[metric], torch[metric])


@pytest.mark.parametrize("metric", QUALITY_WITHOUT_DROPOUT)
def test_without_dropout_every_seed_ends_alike(measured, metric):
    tf, torch = measured("tf", *WITHOUT_DROPOUT), measured("torch", *WITHOUT_DROPOUT)
    assert largest_difference(tf, torch, metric) <= QUALITY_WITHOUT_DROPOUT[metric], (tf[metric], torch[metric])


@pytest.mark.parametrize("metric", QUALITY_MARGINS)
def test_rung7_notices_a_dropped_log_q(measured, metric):
    assert not is_equal(measured("tf"), measured("torch", "loss.log_q=none"), metric)


@pytest.mark.parametrize("metric", QUALITY_WITHOUT_DROPOUT)
def test_rung7_notices_a_little_less_decay(measured, metric):
    torch = measured("torch", *WITHOUT_DROPOUT, "optimizer.weight_decay=0.45")
    assert largest_difference(measured("tf", *WITHOUT_DROPOUT), torch, metric) > QUALITY_WITHOUT_DROPOUT[metric]
