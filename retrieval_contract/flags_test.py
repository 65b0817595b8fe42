"""The command line is frozen: a changed flag must change this test knowingly."""

import pytest

from retrieval_contract.errors import UserError
from retrieval_contract.flags import FLAGS_OF_VERB, VERBS, HelpRequestedError, parse, run_config

FROZEN = {
    "train": "batch_size config data_dir device epochs on_bad_rows overwrite preset resume seed set warm_start workdir",
    "evaluate": "data_dir device on_bad_rows set workdir",
    "embed": "data_dir device on_bad_rows set workdir",
    "build_index": "backend data_dir device k max_bytes on_bad_rows set target_recall workdir",
    "recommend": "all backend data_dir device exclude_seen k on_bad_rows out overwrite query_id resume set workdir",
    "export": "data_dir device export_dir kind on_bad_rows set workdir",
    "publish": "backend data_dir device on_bad_rows set workdir",
    "serve": (
        "backend data_dir device fields grpc_port host max_batch max_body_bytes max_exclusions max_k max_rows "
        "max_seconds max_wait_ms max_waiting name on_bad_rows poll_seconds port set token_file workdir"
    ),
}


def test_flags_are_frozen():
    assert {verb: " ".join(sorted(names)) for verb, names in FLAGS_OF_VERB.items()} == FROZEN
    assert list(VERBS) == list(FROZEN)


def test_short_flags_reach_the_configuration_and_set_has_the_last_word():
    line = ["--preset=simulated", "--workdir=w", "--epochs=3", "--batch_size=64", "--seed=5", "--data_dir=/d d"]
    config = run_config(parse("train", [*line, "--set", "loss.temperature=0.05", "--set=training.epochs=4"]))
    assert (config.training.epochs, config.training.batch_size, config.seed) == (4, 64, 5)
    assert config.source.data_dir == "/d d"
    assert config.loss.temperature == 0.05


def test_a_list_survives_the_command_line():
    line = ["--preset=simulated", "--workdir=w", "--set", "query.hidden_dims=[512,256]"]
    assert run_config(parse("train", line)).query.hidden_dims == (512, 256)


@pytest.mark.parametrize(
    ("verb", "line", "message"),
    [
        ("train", ["--workdri=w"], "did you mean --workdir"),
        ("train", ["--preset=simulated"], "--workdir is missing"),
        ("train", ["--workdir=w", "--epochs=many"], "epochs"),
        ("train", ["--workdir=w", "stray"], "stray"),
        ("evaluate", ["--workdir=w", "--epochs=3"], "unknown flag --epochs"),
        ("recommend", ["--workdir=w", "--k=0"], "k"),
        ("serve", ["--workdir=w", "--port=-1"], "port"),
        ("serve", ["--workdir=w", "--max_wait_ms=soon"], "max_wait_ms"),
    ],
)
def test_a_wrong_command_line_is_refused(verb, line, message):
    with pytest.raises(UserError, match=message):
        parse(verb, line)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ([], "nothing says what to train"),
        (["--preset=movielens"], "unknown preset"),
        (["--preset=simulated", "--config=x.yaml"], "both"),
        (["--config=no_such.yaml"], "no_such.yaml"),
        (["--preset=simulated", "--on_bad_rows=drop"], "on_bad_rows"),
    ],
)
def test_a_command_that_names_no_run_is_refused(line, message):
    with pytest.raises(UserError, match=message):
        run_config(parse("train", ["--workdir=w", *line]))


def test_help_lists_every_flag():
    with pytest.raises(HelpRequestedError) as text:
        parse("train", ["--help"])
    for name in FLAGS_OF_VERB["train"]:
        assert f"--{name}" in str(text.value) or f"--[no]{name}" in str(text.value)
