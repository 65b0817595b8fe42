"""Each sweep holds its own lines, and says which values cannot be told apart."""

import dataclasses

from benchmarks import record, sweeps, sweeps_report


def _line(recall, seconds=2.0, dataset="ml-100k", **changed):
    settings = {**sweeps_report.REFERENCE, "examples": 1_000, "dataset": dataset} | changed
    entry = {"low": recall - 0.01, "value": recall, "high": recall + 0.01}
    times = record.Times(wall=[seconds], cpu=[seconds])
    metrics = dict.fromkeys(sweeps_report.METRICS, entry)
    return record.line("s", str(settings), times, settings=settings, seed=0, metrics=metrics, steps=1_000)


def _lines():
    return [
        _line(0.2),
        _line(0.1, temperature=0.5),
        _line(0.215, temperature=0.05),
        _line(0.3, batch_size=4_096),
        _line(0.05, width=16, dataset="other"),
    ]


def test_the_reference_is_the_scripts():
    reference = dataclasses.asdict(sweeps.REFERENCE)
    assert {name: reference[name] for name in sweeps_report.FIELDS} == sweeps_report.REFERENCE


def test_sweeps_hold_what_they_change():
    found = sweeps_report.changed(_lines(), "temperature")
    assert [line["settings"]["temperature"] for line in found["ml-100k"]] == [0.05, 0.1, 0.5]
    assert "other" not in found
    assert [line["settings"]["batch_size"] for line in sweeps_report.changed(_lines(), "batch_size")["ml-100k"]] == [
        512,
        4_096,
    ]


def test_answers(tmp_path):
    text = " ".join(sweeps_report.section(_lines(), tmp_path).split())
    assert "Best recall@10 at temperature 0.05: 0.215 [0.205, 0.225] in 2.0 s; least at 0.5" in text
    assert "No difference (the intervals overlap) from 0.1." in text
    assert "Best recall@10 at batch size 4,096" in text
    assert {path.name for path in tmp_path.iterdir()} == {f"sweeps_{field}.svg" for field in sweeps_report.FIELDS}
