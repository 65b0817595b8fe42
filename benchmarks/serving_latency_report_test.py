"""Sections of benchmarks whose scripts say little by themselves: latencies, batches, and what a step's parts cost."""

import pytest

from benchmarks import input_pipeline_report, negative_costs, negative_costs_report, record, serving_latency_report


def latency(name, milliseconds, recall, candidates=200_000, whole=()):
    times = record.Times(wall=[ms / 1e3 for ms in milliseconds], cpu=[0.0])
    settings = {"candidates": candidates, "dim": 128, "latent": 24, "k": 100, "excluded": 50}
    figures = {"recall": [recall] * len(milliseconds), "num_bytes": 2_000_000, "build_seconds": 1.5}
    figures["recommend_seconds"] = [ms / 1e3 for ms in whole]
    return record.line(
        "serving_latency", f"{name}, {candidates:,} candidates", times, settings=settings, seed=0, **figures
    )


def test_latencies_have_percentiles_recall_and_ratios_of_pairs(tmp_path):
    slow = [float(ms) for ms in range(1, 102)]
    lines = [latency("scann", slow, 0.9), latency("raw_scann", [ms / 2 for ms in slow], 0.95)]
    text = serving_latency_report.section(lines, tmp_path)
    row = next(row.split(" | ")[1:] for row in text.splitlines() if row.startswith("| ScaNN |"))
    assert row[:5] == ["0.9000 [0.9000, 0.9000]", "51.00", "96.00", "100.00", "51.00 (26.00 to 76.00)"]
    assert row[5:] == ["", "2.00 [2.00, 2.00]", "1.5", "2 |"]
    assert "ScaNN takes 2.00 [2.00, 2.00] of ScaNN alone's time at -0.050 recall." in text
    assert (tmp_path / "serving_latency.svg").exists()
    lines.append(latency("scann", slow, 0.8, candidates=1_000_000))
    ((question, command, figure),) = serving_latency_report.readme_rows(lines)
    assert "1,000,000 x 128" in question and "--quick" not in command and figure == "ScaNN 0.800, 51.00 ms, 100.00 ms"


def test_what_a_query_takes_behind_a_tower(tmp_path):
    lines = [latency("faiss", [1.0, 2.0, 3.0], 0.9, whole=[6.0, 3.0, 6.0]), latency("raw_scann", [1.0, 1.0, 1.0], 0.9)]
    row = next(row for row in serving_latency_report.section(lines, tmp_path).splitlines() if "| FAISS |" in row)
    assert row.split(" | ")[6] == "6.00 ms, 6.00 ms"
    (_, (question, _, figure)) = serving_latency_report.readme_rows(lines)
    assert question.startswith("the same with the query tower") and figure == "FAISS 6.00 ms, 6.00 ms"


def test_batches_have_rates_against_one_thread(tmp_path):
    def line(variant, threads, seconds):
        settings = {"interactions": 10, "candidates": 5, "history": 50, "variant": variant}
        settings |= {"batch_size": 1_024, "threads": threads}
        times = record.Times(wall=seconds, cpu=seconds)
        return record.line("input_pipeline", f"{variant} {threads}", times, settings=settings, seed=0, examples=1_000)

    lines = [line("ids", 0, [0.5] * 6), line("everything", 0, [2.0] * 6), line("everything", 2, [1.0] * 6)]
    text = input_pipeline_report.section(lines, tmp_path)
    assert "| everything 2 | 1,000 | 1.00 s (1.00 to 1.00) | 6 | 0.50 [0.50, 0.50] |" in text
    assert "An epoch of `everything` takes 4.00 [4.00, 4.00] times as long as one of `ids`" in text
    assert input_pipeline_report.readme_rows(lines) == []


@pytest.mark.parametrize(("slower", "said"), [(1.0, "no difference (1.00"), (1.5, "1.50 [1.50, 1.50]")])
def test_costs_are_ratios_of_neighbours(tmp_path, slower, said):
    pair = negative_costs.PAIRS["log_q_overhead"]
    lines = []
    for kind, factor in ((pair.without, 1.0), (pair.along, slower)):
        times = record.Times(wall=[factor * seconds for seconds in (1.0, 4.0, 2.0, 1.0, 3.0, 1.0)], cpu=[1.0])
        settings = {"stack": "tfrs_models", "figure": "log_q_overhead", "kind": kind}
        lines.append(record.line("negative_costs", kind, times, settings=settings, seed=0))
    text = negative_costs_report.section(lines, tmp_path)
    assert said in text and text.startswith("## Costs of a step\n\nWhat do")
    ((_, _, figure),) = negative_costs_report.readme_rows(lines)
    assert said in figure
