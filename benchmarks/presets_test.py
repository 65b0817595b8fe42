"""Presets are trained by the public verb on data that is there; figures that cannot be equal are not written."""

import json
import sys

import pytest

from benchmarks import presets, record
from benchmarks.preset_cases import CASES, chosen
from retrieval_contract.presets import PRESETS


def entry(value):
    return {"value": value, "low": value - 0.01, "high": value + 0.01}


def made(stack, *, preset="simulated", seed=0, value=0.2, popularity=0.1, config="c", **figures):
    """A line as `train` makes it."""
    row = {name: entry(value) for name in presets.REPORTED}
    counts = {"num_queries": 10, "num_excluded": 0, "num_held_out_rows": 20, "num_candidates": 30, "exclude_seen": True}
    settings = {"stack": stack, "preset": preset, "seed": seed, "config": config}
    baselines = {"popularity": {name: entry(popularity) for name in presets.REPORTED}}
    times = record.Times(wall=[1.0], cpu=[1.0])
    fields = {"metrics": row, "baselines": baselines, **counts} | figures
    return record.line(presets.NAME, f"{preset}, {stack}", times, settings=settings, seed=seed, **fields)


def test_every_case_is_a_preset():
    assert set(CASES) <= set(PRESETS)
    assert [case.name for case in chosen(None, quick=True)] == ["simulated"]
    assert [case.name for case in chosen(["video"], quick=True)] == ["video"]
    assert len(chosen(None, quick=False)) == len(CASES)


def test_flags_name_the_data_where_it_is(tmp_path):
    cache = tmp_path / "shared" / "tfds_downloads" / "movielens"
    cache.mkdir(parents=True)
    (cache / "ml.zip").write_bytes(b"z")
    flags = CASES["movielens_latest_small"].flags(tmp_path / "shared", tmp_path / "scratch")
    assert (tmp_path / "scratch" / "downloads" / "movielens" / "ml.zip").read_bytes() == b"z"
    assert flags[0] == "--preset=movielens_latest_small" and "source.download_dir=" in flags[2]
    asked = CASES["movielens_100k"].flags(tmp_path, tmp_path)[1].removeprefix("--set=source=")
    assert json.loads(asked) == {
        **PRESETS["movielens_100k_files"]().source.model_dump(mode="json"),
        "data_dir": str(tmp_path / "data" / "ml-100k"),
    }


def test_absent_data_is_named_and_left_out(tmp_path, capsys):
    presets.main(["--preset=movietweetings_100k", "--data", str(tmp_path), "--results", str(tmp_path)])
    shown = capsys.readouterr()
    assert "left out: no data for MovieTweetings" in shown.err and str(tmp_path / "data") in shown.err
    assert json.loads(shown.out) == {"recall@10": {}} and not list(tmp_path.iterdir())


def test_lines_of_both_stacks_are_written_together(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(presets, "train", lambda case, stack, seed, shared: made(stack, seed=seed))
    presets.main(["--quick", "--seeds=2", "--results", str(tmp_path)])
    lines = record.read(tmp_path / "presets.jsonl")
    assert [(line["settings"]["stack"], line["seed"]) for line in lines] == [
        (stack, seed) for seed in (0, 1) for stack in presets.STACKS
    ]
    both = dict.fromkeys(presets.STACKS, 0.2)
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"recall@10": {"simulated": both}}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"popularity": 0.11}, "baselines differs"),
        ({"num_queries": 11}, "num_queries differs"),
        ({"config": "other"}, "configured differently"),
        ({"metrics": {"recall@10": {"value": 0.5, "low": 0.6, "high": 0.7}}}, "recall@10 is"),
    ],
)
def test_figures_that_cannot_be_are_refused(changed, said):
    presets.check([made("tfrs_models"), made("torch_reference", value=0.3)])
    with pytest.raises(AssertionError, match=said):
        presets.check([made("tfrs_models"), made("torch_reference", **changed)])


def test_a_command_that_fails_says_why(tmp_path, monkeypatch, capsys):
    failing = [sys.executable, "-c", "import sys; sys.exit('no ratings.parquet')"]
    monkeypatch.setattr(presets, "train", lambda *arguments: presets.timed(failing))
    with pytest.raises(SystemExit) as stopped:
        presets.main(["--quick", "--results", str(tmp_path)])
    assert stopped.value.code == 1 and "no ratings.parquet" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_commands_time_is_its_own():
    taken = presets.timed([sys.executable, "-c", "sum(range(3_000_000))"])
    assert taken.cpu[0] > 0 and taken.wall[0] > 0
