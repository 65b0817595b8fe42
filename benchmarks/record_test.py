"""Lines hold what they must, and survive."""

import json

import pytest

from benchmarks import record
from retrieval_contract.errors import UserError


def test_line_names_config_versions_machine_and_every_time():
    times = record.Times().take(lambda: None).take(lambda: sum(range(1_000)))
    line = record.line("b", "case", times, settings={"dim": 3}, seed=7, found=1)
    assert line["wall_seconds"] == times.wall and len(times.wall) == len(times.cpu) == 2
    assert line["settings"] == {"dim": 3} and line["seed"] == 7 and line["found"] == 1
    assert line["digest"] == record.digest({"dim": 3}) != record.digest({"dim": 4})
    assert line["versions"]["numpy"] and line["cpu"] and line["cores"] >= 1 and line["taken"]
    json.dumps(line, allow_nan=False)


def test_lines_are_appended(tmp_path):
    path = tmp_path / "new" / "b.jsonl"
    record.append(path, [{"a": 1}])
    record.append(path, [{"a": 2}, {"a": 3}])
    assert record.read(path) == [{"a": 1}, {"a": 2}, {"a": 3}]


def test_damaged_line_is_named(tmp_path):
    path = tmp_path / "b.jsonl"
    path.write_text('{"a": 1}\n{"a"')
    with pytest.raises(UserError, match="line 2"):
        record.read(path)
    with pytest.raises(UserError, match="cannot read"):
        record.read(tmp_path / "none.jsonl")
