"""The section of the load says rates, lateness, and whether memory grew."""

from benchmarks import record, serving_load_report


def line(way, seconds, *, candidates=1_000, samples=(5e6, 5e6, 5e6, 9e6)):
    settings = {"way": way, "backend": "scann", "candidates": candidates, "k": 10, "excluded": 0}
    settings |= {"connections": 4, "rate": None, "seconds": int(seconds)}
    ms = {"p50": 1.0, "p95": 2.0, "p99": 3.25, "p99.9": 4.0}
    times = record.Times(wall=[seconds], cpu=[seconds / 2])
    figures = {"requests": 1_000, "seconds": seconds, "errors": 2, "ms": ms, "recall": 0.99}
    return record.line(
        "serving_load", f"{way} {candidates}", times, settings=settings, seed=0, resident_bytes=list(samples), **figures
    )


def test_a_short_load_has_rates_and_no_word_on_memory(tmp_path):
    text = serving_load_report.section([line("closed", 2.0)], tmp_path)
    assert "| 1 | 0.9900 | 500 | 2 | 1.00 | 2.00 | 3.25 | 4.00 | 1.00 | 5, 9 |" in text
    assert "minutes" not in text and not list(tmp_path.iterdir())


def test_a_long_load_says_what_memory_did(tmp_path):
    text = serving_load_report.section([line("paced", 120.0)], tmp_path)
    assert "1,000 requests in 2 minutes: 5 MB in the first quarter, 9 MB in the last, +4000.0 bytes a request." in text
    assert (tmp_path / "serving_load.svg").exists()


def test_the_readme_quotes_the_paced_load_of_the_largest_catalogue():
    lines = [line("closed", 2.0, candidates=9_000), line("paced", 2.0), line("paced", 4.0, candidates=9_000)]
    ((question, _, figure),) = serving_load_report.readme_rows(lines)
    assert "9,000 candidates behind ScaNN" in question
    assert figure == "k 10 with 0 excluded at recall 0.990, 1 ms to share a batch: 250 a second, p50 1.0 ms, p99 3.2 ms"
    assert serving_load_report.readme_rows(lines[:1]) == []
