"""A run that one stack trained belongs to the other as well: the same metrics to the last digit, and it goes on."""

import json
import shutil

import numpy as np
import pytest

from retrieval_contract.config_text import with_settings
from retrieval_contract.presets import preset
from retrieval_contract.runs.checkpoints import checkpoint_paths, read_checkpoint
from retrieval_contract.runs.opened import evaluate_encoders, open_run
from retrieval_contract.runs.training import train_run
from retrieval_contract.runs.workdir import Workdir
from tfrs_models.stack import STACK as TF_STACK
from torch_reference.stack import STACK as TORCH_STACK

STACKS = {"tf": TF_STACK, "torch": TORCH_STACK}
OTHER = {"tf": TORCH_STACK, "torch": TF_STACK}
SMALL = (
    "source.num_interactions=3000",
    "source.num_queries=150",
    "source.num_candidates=200",
    "training.batch_size=128",
    "training.epochs=4",
    "query.hidden_dims=[16]",
    "evaluation.bootstrap_samples=100",
    "loss.log_q=streaming",
    "loss.learn_temperature=true",
    "negatives.mask_known_positives=true",
    "negatives.bank.num_batches=2",
    "negatives.bank.momentum=0.9",
)


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory):
    """A run of each stack: dropout, a hidden layer, a candidate bias, and all that a checkpoint can hold."""
    folders = {}
    for name, stack in STACKS.items():
        folders[name] = Workdir(tmp_path_factory.mktemp(name) / "run")
        train_run(stack, with_settings(preset("simulated"), list(SMALL)), folders[name], resume=False, overwrite=False)
    return folders


def evaluated(stack, workdir):
    opened = open_run(stack, with_settings(preset("simulated"), list(SMALL)), workdir)
    return evaluate_encoders(opened.config, opened.prepared, opened.encoders, learned=opened.learned).to_json()


@pytest.mark.parametrize("trained_by", STACKS)
def test_the_other_stack_reports_the_same_to_the_last_digit(workdirs, trained_by):
    assert evaluated(OTHER[trained_by], workdirs[trained_by]) == workdirs[trained_by].metrics.read_text()


def test_exchange_notices_other_weights(workdirs):
    assert evaluated(TF_STACK, workdirs["torch"]) != workdirs["tf"].metrics.read_text()


@pytest.mark.parametrize("trained_by", STACKS)
def test_the_other_stack_goes_on_from_the_checkpoint(workdirs, trained_by, tmp_path):
    copy = Workdir(shutil.copytree(workdirs[trained_by].path, tmp_path / "run"))
    before = read_checkpoint(copy.checkpoints)
    config = with_settings(preset("simulated"), [*SMALL, "training.epochs=5"])
    train_run(OTHER[trained_by], config, copy, resume=True, overwrite=False)
    after = read_checkpoint(copy.checkpoints)
    assert after.keys() == before.keys()
    assert {"weights", "slots", "bank", "average", "sampling"} < {name.split("/")[0] for name in after}
    steps = int(before["step"]) // 4
    assert int(after["step"]) == 5 * steps
    assert len(checkpoint_paths(copy.checkpoints)) == 2
    assert not np.array_equal(after["weights/query.dense.0.kernel"], before["weights/query.dense.0.kernel"])
    assert int(after["bank/enqueued"]) == 128 * 5 * steps
    assert int(after["sampling/step"]) == 5 * steps
    assert json.loads(copy.metrics.read_text())["num_queries"] > 0
