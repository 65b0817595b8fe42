"""The report says what the lines say, section by section, and its check fails where the README says otherwise."""

import json

import pytest

from benchmarks import raw_times, record, report


def _line(case, wall, *, benchmark="speed", seed=0, **figures):
    times = record.Times(wall=wall, cpu=wall)
    return record.line(benchmark, case, times, settings={"dim": 3}, seed=seed, **figures)


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    record.append(folder / "speed.jsonl", [_line("fast", [1.0, 2.0])])
    pipeline = _line("memory of 10", [1.0], benchmark="input_pipeline", peak_bytes=2**31, seconds={"draw": 1.0})
    pipeline["settings"] = {"interactions": 10, "candidates": 5, "variant": "everything"}
    record.append(folder / "input_pipeline.jsonl", [pipeline])
    return folder


def test_table_has_medians_and_the_latest_line_of_each_case():
    lines = [_line("old", [9.0]), _line("fast", [1.0, 5.0, 2.0]), _line("old", [7.0], examples_per_second=1234.4)]
    text = raw_times.table(report.latest(lines))
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines()]
    assert [row[:6] for row in rows[2:]] == [
        ["old", "7.0000", "7.0000", "7.0000", "7.0000", "1"],
        ["fast", "2.0000", "1.0000", "5.0000", "2.0000", "3"],
    ]
    assert rows[2][6] == "1,234/s" and "dim 3" in rows[2][7]


def test_seeds_are_not_the_same_line():
    assert len(report.latest([_line("a", [1.0]), _line("a", [1.0], seed=1), _line("a", [2.0])])) == 2


def test_both_files_are_written_the_same_each_time(results, capsys):
    report.main(["--results", str(results)])
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    paths = [results.parent / name for name in ("REPORT.md", "REPORT.html")]
    assert said["written"] == [str(path) for path in paths] and "scale" in said["not_measured"]
    before = [path.read_bytes() for path in paths]
    text = before[0].decode()
    assert "## speed\n\nRaw times" in text and "| fast | 1.5000 |" in text and "(results/plots/speed.svg)" in text
    assert "## Input pipeline" in text and "take 2.00 GiB at their peak" in text
    assert "Not measured: run `python -m benchmarks.scale`." in text and "## Machines and versions" in text
    assert b"<svg" in before[1] and b"2.00 GiB" in before[1]
    report.main(["--results", str(results)])
    assert [path.read_bytes() for path in paths] == before


def test_check_passes_what_was_written_and_fails_on_a_digit(results, tmp_path, capsys):
    lines = [
        _line(f"{kind}, width 32", [seconds] * 6, benchmark="evaluation_speed")
        for kind, seconds in {"FactorizedTopK": 3.0, "accuracies": 1.5}.items()
    ]
    for line in lines:
        line["settings"] = {"dim": 32, "queries": 9_000, "candidates": 7_000}
    record.append(results / "evaluation_speed.jsonl", lines)
    readme = tmp_path / "README.md"
    readme.write_text("# T\n\n## Results\n\n<!-- report: speed -->\n<!-- /report -->\n\nOf 9,000 queries.\n")
    report.main(["--results", str(results), "--write", str(readme)])
    assert "9,000 queries x 7,000" in readme.read_text() and "2.00 [2.00, 2.00]" in readme.read_text()
    report.main(["--results", str(results), "--check", str(readme)])
    for before, after in (("2.00 [", "2.01 ["), ("Of 9,000", "Of 9,001")):
        changed = tmp_path / "CHANGED.md"
        changed.write_text(readme.read_text().replace(before, after))
        with pytest.raises(SystemExit) as stopped:
            report.main(["--results", str(results), "--check", str(changed)])
        assert stopped.value.code == 1 and after.removeprefix("Of ") in capsys.readouterr().err


def test_no_lines_and_no_report_are_the_users_mistake(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        report.main(["--results", str(tmp_path)])
    assert stopped.value.code == 2 and "make bench" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        report.main(["--results", str(tmp_path), "--check", str(tmp_path / "README.md")])
    assert stopped.value.code == 2 and "benchmarks.report" in capsys.readouterr().err
