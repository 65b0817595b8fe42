"""A RunConfig as text: YAML files and `path=value` settings, with faults said by field and the nearest key named."""

import difflib
import json
import math
import re
from pathlib import Path
from typing import Any

import pydantic
import yaml
from pydantic_core import ErrorDetails

from retrieval_contract import config as branch
from retrieval_contract.config import RunConfig, Settings
from retrieval_contract.errors import UserError


def config_from_tree(tree: object, *, where: str) -> RunConfig:
    """Validate a tree of plain values.

    Args:
        tree: nested mappings as YAML or JSON gives them.
        where: what to name in an error (a file, or `command line`).

    Raises:
        UserError: unknown key (the nearest is named), wrong type, or values that do not go together.
    """
    if not isinstance(tree, dict):
        raise UserError(f"a configuration is a mapping, got {type(tree).__name__}", where=where)
    try:
        return RunConfig.model_validate_json(json.dumps(_finite(tree)))
    except pydantic.ValidationError as error:
        raise UserError(_say(error, tree), where=where, todo="mend the field and run again") from None
    except (TypeError, ValueError) as error:
        raise UserError(str(error), where=where) from None


def read_config(path: Path) -> RunConfig:
    """Read a YAML file such as every run writes.

    Raises:
        UserError: no such file, not YAML, or a field that is refused.
    """
    return config_from_tree(read_yaml(path), where=str(path))


class _Loader(yaml.SafeLoader):
    """YAML whose numbers are YAML 1.2's: `1e-3` is a number (PyYAML's 1.1 takes it for text)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def parse_yaml(text: str) -> object:
    """Parse plain values from YAML text.

    Raises:
        yaml.YAMLError: it is no YAML.
    """
    return yaml.load(text, _Loader)


def read_yaml(path: Path) -> object:
    """Read plain values from a YAML file.

    Raises:
        UserError: no such file, or not YAML.
    """
    try:
        return parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the configuration: {error.strerror}", where=str(path)) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"not YAML: {error}", where=str(path)) from None


def with_settings(config: RunConfig, settings: list[str], *, where: str = "--set") -> RunConfig:
    """Apply `path.to.field=value` settings; the value is read as YAML.

    A list is entered by number: `query.features.0.width=16`.

    Raises:
        UserError: no `=`, unknown key (the nearest is named), wrong type.
    """
    tree = config.model_dump(mode="json")
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path:
            raise UserError(f"{setting!r} is not PATH=VALUE", where=where, todo="for example loss.temperature=0.05")
        try:
            value = parse_yaml(text)
        except yaml.YAMLError as error:
            raise UserError(f"{path}: {text!r} is not YAML: {error}", where=where) from None
        _put(tree, path, value, where=where)
    return config_from_tree(tree, where=where)


def _put(tree: Any, path: str, value: object, *, where: str) -> None:
    """Set one value in a plain tree; every step but a new key of a dict[str, str] must exist."""
    *steps, last = path.split(".")
    node = tree
    for place, step in enumerate([*steps, last]):
        if node is None:
            unset = ".".join(steps[:place])
            raise UserError(f"{path!r} is within {unset!r}, which is null", where=where, todo=f"set {unset} as a whole")
        keys = (
            list(node)
            if isinstance(node, dict)
            else [str(i) for i in range(len(node))]
            if isinstance(node, list)
            else []
        )
        is_last = place == len(steps)
        free = is_last and bool(steps) and steps[-1].endswith("columns")
        if step not in keys and not free:
            raise UserError(f"unknown key {path!r}" + _nearest(step, keys), where=where)
        if is_last:
            break
        node = node[int(step)] if isinstance(node, list) else node[step]
    node[int(last) if isinstance(node, list) else last] = value


def _nearest(key: str, keys: list[str]) -> str:
    close = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known here: {', '.join(keys) or 'nothing'}"


def _finite(value: Any) -> Any:
    """Refuse NaN and infinity, which JSON would let through as words."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number")
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def _say(error: pydantic.ValidationError, tree: object) -> str:
    """One line for the first faults of a validation error."""
    return "; ".join(_say_one(fault, tree)[:300] for fault in error.errors()[:3])


def _say_one(fault: ErrorDetails, tree: object) -> str:
    """Field, feature and both values of one fault."""
    steps = _path(fault["loc"])
    path = ".".join(steps)
    owner = _feature_at(tree, steps)
    if fault["type"] == "extra_forbidden":
        return f"unknown key {path!r}{owner}" + _nearest(steps[-1], _keys_at(fault["loc"][:-1]))
    if fault["type"] == "missing":
        return f"{path}{owner} is missing"
    if fault["type"] == "union_tag_not_found":
        return f"{path}.kind{owner} is missing"
    if fault["type"] == "union_tag_invalid":
        kinds = fault["ctx"]["expected_tags"]
        return f"{path}{owner}: unknown kind {fault['ctx']['tag']!r}; there are {kinds}"
    if not path or isinstance(fault["input"], dict):
        # Our own sentences about a whole branch name the feature themselves.
        return f"{path}: {_plain(fault['msg'])}" if path else _plain(fault["msg"])
    return f"{path}{owner}: {_plain(fault['msg'])}, got {fault['input']!r}"


def _feature_at(tree: object, steps: list[str]) -> str:
    """` of feature NAME` where a path leads into one that has a name."""
    if len(steps) < 3 or steps[1] != "features":
        return ""
    node: Any = tree
    try:
        name = node[steps[0]]["features"][int(steps[2])]["name"]
    except (KeyError, TypeError, IndexError, ValueError):
        return ""
    return f" of feature {name!r}" if isinstance(name, str) else ""


def _plain(message: str) -> str:
    """Drop the library's own prefix."""
    return message.removeprefix("Value error, ")


def _path(loc: tuple[int | str, ...]) -> list[str]:
    """Steps of a location as one would write them: without the kinds that pydantic puts behind a union's place."""
    behind = [None, *loc]
    return [
        str(step)
        for step, before in zip(loc, behind, strict=False)
        if not (isinstance(step, str) and (isinstance(before, int) or before in ("source", "pooling")))
    ]


def _keys_at(loc: tuple[int | str, ...]) -> list[str]:
    """Field names of the branch that an error's location leads to."""
    named = next((_BRANCHES[str(step)] for step in reversed(loc) if str(step) in _BRANCHES), RunConfig)
    return list(named.model_fields)


_BRANCHES: dict[str, type[Settings]] = {
    "simulated": branch.SimulatedSource,
    "simulated_video": branch.SimulatedVideoSource,
    "movielens": branch.MovieLensSource,
    "files": branch.FilesSource,
    "positives": branch.Positives,
    "split": branch.SplitRule,
    "query": branch.Tower,
    "context": branch.Tower,
    "candidate": branch.Tower,
    "id": branch.IdFeature,
    "categorical": branch.CategoricalFeature,
    "multivalent": branch.MultivalentFeature,
    "numeric": branch.NumericFeature,
    "time": branch.TimeFeature,
    "text": branch.TextFeature,
    "dense": branch.DenseFeature,
    "cross": branch.CrossFeature,
    "affinity": branch.AffinityFeature,
    "history": branch.HistoryFeature,
    "mean": branch.MeanPooling,
    "weighted_mean": branch.WeightedMeanPooling,
    "attention": branch.AttentionPooling,
    "gru": branch.GruPooling,
    "transformer": branch.TransformerPooling,
    "mind": branch.MindPooling,
    "comirec": branch.ComiRecPooling,
    "model": branch.Model,
    "loss": branch.Loss,
    "streaming": branch.Streaming,
    "negatives": branch.Negatives,
    "mined": branch.Mined,
    "bank": branch.Bank,
    "optimizer": branch.Optimizer,
    "training": branch.Training,
    "evaluation": branch.Evaluation,
    "index": branch.Index,
}
"""Branches by the step of a location that leads into them: a field's name, or a union's kind."""
