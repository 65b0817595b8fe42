"""The one definition of the command line of both stacks, and the way from flags to a RunConfig.

The flags are absl's, kept in a `FlagValues` of their own: absl's global registry refuses a flag that is defined twice,
and one process may hold both stacks.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags

from retrieval_contract.config import RunConfig
from retrieval_contract.config_text import read_config, with_settings
from retrieval_contract.errors import UserError
from retrieval_contract.presets import PRESETS, preset
from retrieval_contract.serving.limits import Limits

VERBS = {
    "train": "Train both towers, evaluate them, and leave everything a run needs in its workdir.",
    "evaluate": "Evaluate a run exactly over the whole catalogue and write metrics.json.",
    "embed": "Write the vectors of every candidate.",
    "build_index": "Build an index over the candidate vectors.",
    "recommend": "Print the best candidates of one query, or write those of all.",
    "export": "Write a model that serves without this project, as the next version of a folder.",
    "publish": "Put the run's weights and its index as the next version where a server takes it up.",
    "serve": "Answer requests over HTTP with the newest published version, and take up newer ones.",
}

_TEXT: dict[str, tuple[Any, str]] = {
    "workdir": ("", "Folder of the run: configuration, checkpoints, weights, metrics, indexes. Required."),
    "preset": ("", f"Complete named run to start from: {', '.join(PRESETS)}."),
    "config": ("", "YAML file to start from, such as every run writes as config.yaml."),
    "warm_start": ("", "Workdir of a finished run whose vocabularies and weights this one begins with and extends."),
    "data_dir": (None, "Where the data lies (source.data_dir)."),
    "device": (None, "auto, cpu or cuda (training.device)."),
    "on_bad_rows": (None, "raise or drop (source.on_bad_rows)."),
    "backend": (
        None,
        "exact, scann, partitioned or faiss; the default is what --target_recall has chosen, else the run's "
        "index.backend. With --target_recall also all, which is then the default.",
    ),
    "query_id": ("", "Raw id of the query; this or --all."),
    "out": ("", "Parquet file that --all writes; parts lie beside it until it is whole."),
    "kind": (None, "Search of the exported model; the default is what tuning chose, else the run's index.backend."),
    "export_dir": ("", "Folder of the model's versions, in which the next one is made. Required."),
}
_WHOLE = {
    "epochs": "Passes over the train positives (training.epochs).",
    "batch_size": "Examples in a batch (training.batch_size).",
    "seed": "Seed of initial weights, batch order and dropout (seed).",
}
_NUMBERS: dict[str, tuple[type[int] | type[float], str]] = {
    "target_recall": (
        float,
        "Measure settings on held-out queries, and keep the fastest whose recall at k is at least this, in (0, 1].",
    ),
    "max_bytes": (int, "Memory that the index may take, with --target_recall; any by default."),
}
"""Not set by default."""
_LIMITS = Limits()
_SERVER: dict[str, tuple[str | int | float, str]] = {
    "host": ("127.0.0.1", "Address to listen on; by default this machine alone is answered."),
    "port": (8501, "Port of the REST interface; 0 takes a free one."),
    "grpc_port": (0, "Port of the gRPC interface, which the TensorFlow stack has; 0 has none."),
    "name": ("retrieval", "Name of the model in the addresses: /v1/models/NAME."),
    "fields": ("", "Columns of candidates to show, with commas between; the default is the title, where there is one."),
    "token_file": ("", "File with the bearer token of :update and :remove; without it both are off."),
    "poll_seconds": (2.0, "Time between looks for a new version."),
    "max_wait_ms": (_LIMITS.wait_ms, "How long a request waits for others to be answered with."),
    "max_batch": (_LIMITS.batch_rows, "Queries answered together."),
    "max_waiting": (_LIMITS.waiting_rows, "Queries that may wait; more get 503."),
    "max_rows": (_LIMITS.rows, "Queries in one request."),
    "max_k": (_LIMITS.k, "Results for one query."),
    "max_exclusions": (_LIMITS.exclusions, "Excluded ids of one query."),
    "max_body_bytes": (_LIMITS.body_bytes, "Bytes of a request's body; more get 413."),
    "max_seconds": (_LIMITS.seconds, "Time for an answer; later ones are 504."),
}
"""The server's address and limits, with their defaults."""
_K = {
    "build_index": (None, "Results that --target_recall counts; 100 by default."),
    "recommend": (10, "Candidates of a query."),
}
"""Default and meaning by verb."""
_SETTABLE = {
    "data_dir": "source.data_dir",
    "device": "training.device",
    "on_bad_rows": "source.on_bad_rows",
    "epochs": "training.epochs",
    "batch_size": "training.batch_size",
    "seed": "seed",
}
_SWITCHES = {
    "resume": "Go on from the newest checkpoint in the workdir.",
    "overwrite": "Replace the run that the workdir already holds.",
    "exclude_seen": "Leave out what the query met in training.",
    "all": "Answer every query, in a file (--out).",
}
_SWITCHES_OF_VERB = {
    ("recommend", "resume"): "With --all: go on where an interrupted run of the same command stopped.",
    ("recommend", "overwrite"): "With --all: replace the file, and forget what an interrupted run left.",
}
"""Where a switch means something else."""
_SHARED = ("workdir", "data_dir", "device", "on_bad_rows", "set")
FLAGS_OF_VERB = {
    "train": (*_SHARED, "preset", "config", "epochs", "batch_size", "seed", "resume", "warm_start", "overwrite"),
    "evaluate": _SHARED,
    "embed": _SHARED,
    "build_index": (*_SHARED, "backend", "target_recall", "k", "max_bytes"),
    "recommend": (*_SHARED, "query_id", "all", "out", "k", "backend", "exclude_seen", "resume", "overwrite"),
    "export": (*_SHARED, "kind", "export_dir"),
    "publish": (*_SHARED, "backend"),
    "serve": (*_SHARED, "backend", *_SERVER),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A parsed command line."""

    verb: str
    workdir: Path
    values: dict[str, Any]
    """Flag name -> value, for the flags of the verb."""
    settings: tuple[str, ...]
    """`path=value` settings, those of the short flags first, so that `--set` has the last word."""


class HelpRequestedError(Exception):
    """The user asked for `--help`; the message is the text."""


def define(verb: str) -> flags.FlagValues:
    """Define the flags of a verb, the same for both stacks.

    Args:
        verb: one of `VERBS`.
    """
    values = flags.FlagValues()
    flags.DEFINE_bool("help", False, "Show this.", short_name="h", flag_values=values)
    for name in FLAGS_OF_VERB[verb]:
        if name in _TEXT:
            default, text = _TEXT[name]
            flags.DEFINE_string(name, default, text, flag_values=values)
        elif name in _WHOLE:
            flags.DEFINE_integer(name, None, _WHOLE[name], flag_values=values)
        elif name in _NUMBERS:
            number, text = _NUMBERS[name]
            define_number = flags.DEFINE_float if number is float else flags.DEFINE_integer
            define_number(name, None, text, flag_values=values)
        elif name in _SERVER:
            _define_by_default(name, *_SERVER[name], values)
        elif name in _SWITCHES:
            text = _SWITCHES_OF_VERB.get((verb, name), _SWITCHES[name])
            flags.DEFINE_bool(name, False, text, flag_values=values)
        elif name == "k":
            default, text = _K[verb]
            flags.DEFINE_integer("k", default, text, lower_bound=1, flag_values=values)
        else:
            text = "Any field of the configuration, as PATH=VALUE; may be given again (loss.temperature=0.05)."
            flags.DEFINE_multi_string("set", [], text, flag_values=values)
    return values


def _define_by_default(name: str, default: str | int | float, text: str, values: flags.FlagValues) -> None:
    """A flag of its default's type, not negative where it is a number."""
    if isinstance(default, str):
        flags.DEFINE_string(name, default, text, flag_values=values)
    elif isinstance(default, int):
        flags.DEFINE_integer(name, default, text, lower_bound=0, flag_values=values)
    else:
        flags.DEFINE_float(name, default, text, lower_bound=0, flag_values=values)


def parse(verb: str, arguments: Sequence[str]) -> Command:
    """Parse a command line.

    Args:
        verb: one of `VERBS`.
        arguments: the words after the program's name.

    Raises:
        UserError: unknown flag (the nearest is named), wrong type, stray words, or no workdir.
        HelpRequestedError: `--help` is among them.
    """
    values = define(verb)
    try:
        rest = values([verb, *arguments])[1:]
    except flags.UnrecognizedFlagError as error:
        raise UserError(_unknown(error.flagname, list(FLAGS_OF_VERB[verb])), where="command line") from None
    except flags.Error as error:
        raise UserError(str(error), where="command line") from None
    if values["help"].value:
        raise HelpRequestedError(f"{VERBS[verb]}\n\nflags:\n{values.get_help()}")
    if rest:
        raise UserError(f"stray words {' '.join(rest)!r}", where="command line", todo="flags look like --name=value")
    found = {name: values[name].value for name in FLAGS_OF_VERB[verb]}
    if not found["workdir"]:
        raise UserError("--workdir is missing", where="command line", todo="name a folder for the run")
    wordy = list(found["set"] or ())
    short = [f"{path}={_yaml(found[name])}" for name, path in _SETTABLE.items() if found.get(name) is not None]
    return Command(verb=verb, workdir=Path(found["workdir"]), values=found, settings=(*short, *wordy))


def run_config(command: Command) -> RunConfig:
    """The configuration that a `train` command asks for.

    It starts from `--config`, else `--preset`, else (with `--resume`) the workdir's own file, and takes the settings.

    Raises:
        UserError: neither or both are given, or a setting is refused.
    """
    given = [name for name in ("preset", "config") if command.values[name]]
    if len(given) > 1:
        raise UserError("--preset and --config are both given", where="command line", todo="give one")
    if "config" in given:
        config = read_config(Path(command.values["config"]))
    elif "preset" in given:
        config = preset(command.values["preset"])
    elif command.values["resume"]:
        config = read_config(command.workdir / "config.yaml")
    else:
        todo = f"give --preset (one of {', '.join(PRESETS)}) or --config=FILE.yaml"
        raise UserError("nothing says what to train", where="command line", todo=todo)
    return with_settings(config, list(command.settings), where="command line")


def saved_config(command: Command) -> RunConfig:
    """The configuration of the run in a command's workdir, with the command's settings.

    Raises:
        UserError: the workdir holds no run, or a setting is refused.
    """
    path = command.workdir / "config.yaml"
    if not path.is_file():
        raise UserError("no run here: config.yaml is missing", where=str(command.workdir), todo="train into it first")
    return with_settings(read_config(path), list(command.settings), where="command line")


def _unknown(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean --{close[0]}?" if close else f"known: {', '.join('--' + item for item in known)}"
    return f"unknown flag --{name}; {hint}"


def _yaml(value: object) -> str:
    """Write a flag's value so that YAML reads the same type back."""
    return f"'{value}'" if isinstance(value, str) else str(value)
