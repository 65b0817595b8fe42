"""Rung 0: both stacks have the same command line, make the same configuration of it, and refuse the same things.

Which flags there are is frozen by `retrieval_contract/flags_test.py`.
"""

import importlib
import sys

import pytest

from retrieval_contract.flags import FLAGS_OF_VERB
from retrieval_contract.verbs import train

STACKS = ("tfrs_models", "torch_reference")
LINES = {
    "preset": ["--preset=simulated"],
    "short flags": ["--preset=simulated", "--epochs=3", "--batch_size=64", "--seed=5"],
    "settings": ["--preset=simulated", "--set", "query.hidden_dims=[512,256]", "--set=loss.temperature=0.05"],
    "places": ["--preset=movielens_100k", "--data_dir=/elsewhere", "--device=cpu"],
}
REFUSED = {
    "unknown flag": (["--preset=simulated", "--epoch=3"], "did you mean --epochs"),
    "unknown key": (["--preset=simulated", "--set=loss.temprature=1.0"], "did you mean 'temperature'"),
    "wrong type": (["--preset=simulated", "--set=training.epochs=many"], "training.epochs"),
    "unknown preset": (["--preset=simulator"], "unknown preset"),
    "unknown key in a file": (["--config={folder}/wrong.yaml"], "did you mean 'temperature'"),
    "no workdir": (["--preset=simulated", "--workdir="], "--workdir is missing"),
}


def run_verb(monkeypatch, capsys, stack, verb, *line):
    """Run a verb as `python -m` would: exit code, what it printed and complained of, the stack's name put out."""
    monkeypatch.setattr(sys, "argv", [verb, *line])
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(f"{stack}.{verb}").main()
    out, err = capsys.readouterr()
    return stop.value.code, out.replace(stack, "STACK"), err.replace(stack, "STACK")


@pytest.fixture
def config_of(monkeypatch, capsys, tmp_path):
    """Ask a stack's `train` for the configuration that it would train."""

    def ask(stack, line):
        asked = []
        with monkeypatch.context() as patch:
            patch.setattr(
                train, "train_run", lambda stack, config, *_, **__: asked.append((stack.name, config)) or Report()
            )
            code, _, err = run_verb(patch, capsys, stack, "train", f"--workdir={tmp_path}", *line)
        assert code == 0, err
        [(name, config)] = asked
        assert name == stack
        return config

    return ask


class Report:
    """Stands in for the report of a run that is not made."""

    def to_text(self):
        return ""


@pytest.mark.parametrize("verb", FLAGS_OF_VERB)
def test_help_is_the_same(monkeypatch, capsys, verb):
    tf, torch = (run_verb(monkeypatch, capsys, stack, verb, "--help") for stack in STACKS)
    assert tf == torch
    assert tf[0] == 0
    for flag in FLAGS_OF_VERB[verb]:
        assert f"--{flag}" in tf[1] or f"--[no]{flag}" in tf[1]


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_the_same_flags_are_the_same_run(config_of, line):
    tf, torch = (config_of(stack, line) for stack in STACKS)
    assert tf == torch
    assert tf.digest() == torch.digest()


@pytest.mark.parametrize(("line", "message"), REFUSED.values(), ids=REFUSED)
def test_the_same_mistake_is_refused_in_the_same_words(monkeypatch, capsys, tmp_path, line, message):
    (tmp_path / "wrong.yaml").write_text("query: {features: []}\nloss: {temprature: 1.0}\n")
    line = [f"--workdir={tmp_path / 'run'}", *(word.format(folder=tmp_path) for word in line)]
    tf, torch = (run_verb(monkeypatch, capsys, stack, "train", *line) for stack in STACKS)
    assert tf == torch
    code, _, err = tf
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("verb", FLAGS_OF_VERB)
def test_every_verb_refuses_an_unknown_flag(monkeypatch, capsys, verb):
    tf, torch = (run_verb(monkeypatch, capsys, stack, verb, "--workdri=w") for stack in STACKS)
    assert tf == torch
    assert tf[0] == 2
    assert "did you mean --workdir" in tf[2]


def test_rung0_notices_another_value(config_of):
    tf, torch = config_of(STACKS[0], LINES["preset"]), config_of(STACKS[1], ["--preset=simulated", "--seed=1"])
    assert tf.digest() != torch.digest()


def test_rung0_notices_another_place_and_it_is_the_same_run(config_of):
    """Where the data lies is not what is computed."""
    tf, torch = config_of(STACKS[0], LINES["preset"]), config_of(STACKS[1], ["--preset=simulated", "--data_dir=/x"])
    assert tf != torch
    assert tf.digest() == torch.digest()


def test_rung0_notices_a_missing_flag(monkeypatch, capsys):
    tf = run_verb(monkeypatch, capsys, STACKS[0], "evaluate", "--help")
    monkeypatch.setitem(FLAGS_OF_VERB, "evaluate", FLAGS_OF_VERB["evaluate"][1:])
    assert run_verb(monkeypatch, capsys, STACKS[1], "evaluate", "--help") != tf
