"""Tables say what the lines say."""

import pytest

from benchmarks import record, report


def _line(case, wall, **figures):
    times = record.Times(wall=wall, cpu=wall)
    return record.line("speed", case, times, settings={"dim": 3}, seed=0, **figures)


def test_table_has_medians_and_the_latest_line_of_each_case():
    lines = [_line("old", [9.0]), _line("fast", [1.0, 5.0, 2.0]), _line("old", [7.0], examples_per_second=1234.4)]
    text = report.tables(lines)
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines() if row.startswith("|")]
    assert [row[:6] for row in rows[2:]] == [
        ["old", "7.0000", "7.0000", "7.0000", "7.0000", "1"],
        ["fast", "2.0000", "1.0000", "5.0000", "2.0000", "3"],
    ]
    assert rows[2][6] == "1,234/s" and "dim 3" in rows[2][7] and text.startswith("### speed")


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_main_prints_tables_and_plots(tmp_path, capsys, ending):
    record.append(tmp_path / "speed.jsonl", [_line("fast", [1.0, 2.0])])
    picture = tmp_path / f"plot.{ending}"
    report.main(["--results", str(tmp_path), "--plot", str(picture)])
    assert "| fast | 1.5000 |" in capsys.readouterr().out
    assert picture.stat().st_size > 1_000


def test_benchmarks_with_a_page_of_their_own_are_left_out(tmp_path, capsys):
    record.append(tmp_path / "speed.jsonl", [_line("fast", [1.0, 2.0])])
    record.append(tmp_path / "negatives.jsonl", [_line("quality", [1.0])])
    report.main(["--results", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "fast" in printed and "quality" not in printed


def test_no_lines_is_the_users_mistake(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        report.main(["--results", str(tmp_path)])
    assert stopped.value.code == 2 and "make bench" in capsys.readouterr().err
