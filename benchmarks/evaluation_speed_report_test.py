"""The section says the ratios, and whether what was asked for is reached."""

from benchmarks import evaluation_speed_report, record


def _line(case, seconds, **settings):
    times = record.Times(wall=[seconds] * 8, cpu=[seconds] * 8)
    settings = {"queries": 20_000, "candidates": 1_682, "dim": 32} | settings
    return record.line("e", case, times, settings=settings, seed=0, queries_verified=20)


def _lines(ours=0.04, evaluation=12.0):
    large = {"queries": 10_000, "candidates": 1_000_000, "dim": 64}
    return [
        _line("FactorizedTopK, width 32", 2.4),
        _line("accuracies, width 32", ours),
        _line("large: matrix product", 9.0, **large),
        _line("large: ranks and top 100", evaluation, **large),
        _line("large: matrix product, whole rows", 15.0, **large),
        _line("large: matrix product", 1.0, queries=10, candidates=100),
    ]


def test_what_is_reached(tmp_path):
    text = evaluation_speed_report.section(_lines(), tmp_path)
    assert "60.0 [60.0, 60.0] times the speed; 50 were asked for: reached." in text
    assert "| ranks and top 100 | 12.0 s (12.0 to 12.0) | 8 | 0.75 [0.75, 0.75] | 1.25 [1.25, 1.25] |" in text
    answer = " ".join(text.split())
    assert "against the matrix product ranks and top 100 0.75 [0.75, 0.75], reached" in answer
    assert (tmp_path / "evaluation_speed.svg").exists()


def test_what_is_not_reached_is_said(tmp_path):
    answer = " ".join(evaluation_speed_report.section(_lines(ours=0.06, evaluation=18.0), tmp_path).split())
    assert "50 were asked for: not reached." in answer
    assert "against the matrix product ranks and top 100 0.50 [0.50, 0.50], not reached" in answer
    assert "whole rows ranks and top 100 0.83 [0.83, 0.83], reached" in answer


def test_without_the_large_case(tmp_path):
    assert "asked for" in evaluation_speed_report.section(_lines()[:2], tmp_path)
