"""Only the law differs from the comparison of indexes, and the report says whether that explains what was seen."""

import dataclasses
import json

import numpy as np
import pytest

from benchmarks import index_difficulty, index_difficulty_report, index_here, record
from benchmarks.index_datasets import clustered
from benchmarks.index_frontier_report import SEEN
from benchmarks.index_lineup import lineup
from benchmarks.index_measuring import K
from benchmarks.index_planted import planted, setting
from benchmarks.serving_vectors import LATENT, NOISE

SCANN, FAISS = "ScaNN tree 1000, AH, SOAR, reorder bfloat16", "FAISS IVF1000,PQ64x4fs,RFlat"
WIDTHS = {
    SCANN: ({"leaves": 20, "rescored": 300}, {"leaves": 20, "rescored": 1_000}),
    FAISS: ({"nprobe": 40, "k_factor": 4}, {"nprobe": 40, "k_factor": 16}),
}


def _lines(monkeypatch, missed, *, more=0, lists=1000):
    """What is written of laws of measured dimension 9 and 15, where so many of the best 100 are missed.

    What scores more again misses so many less.
    """
    lines = []
    for (latent, noise, dimension), few in zip(((8, 0.05, 9.0), (LATENT, NOISE, 15.0)), missed, strict=True):
        asked = planted()
        name = f"1,500, latent {latent}, noise {noise:g}"
        asked = dataclasses.replace(asked, name=name, facts={**asked.facts, "latent": latent, "noise": noise})
        settings = [
            dataclasses.replace(
                setting(
                    structure.replace("1000", str(lists)),
                    lambda at, few=few - more * place, truth=asked.truth: truth[at, few : K + few],
                    library=structure.split()[0],
                    milliseconds=0.2,
                ),
                width=width,
            )
            for structure, widths in WIDTHS.items()
            for place, width in enumerate(widths)
        ]
        monkeypatch.setattr(index_difficulty, "structures", lambda size, dim: [])
        monkeypatch.setattr(index_difficulty, "settings_of", lambda built, settings=settings: settings)
        monkeypatch.setattr(index_difficulty, "measure", lambda settings, dataset: None)
        monkeypatch.setattr(index_difficulty, "estimated_dimension", lambda values, sample, seen=dimension: seen)
        lines += index_difficulty.measured(asked)
    return lines


def test_structures_and_the_last_law_are_those_of_the_comparison():
    made = index_difficulty.structures(1_000_000, 128)
    assert [(each.name, each.widths) for each in made] == list(WIDTHS.items())
    others = {each.name: each for each in lineup(1_000_000, 128, full=False)}
    for each in made:
        assert each.settings == others[each.name].settings and each.widths[0] in others[each.name].widths
        assert f"{each.name}, {', '.join(f'{name} {value}' for name, value in each.widths[0].items())}" in dict(SEEN)
    usual, drawn = clustered(700, 32), index_difficulty.drawn(700, *index_difficulty.LAWS[-1], dim=32)
    np.testing.assert_array_equal(drawn.candidates, usual.candidates)
    assert drawn.facts == usual.facts
    assert (index_difficulty.drawn(700, *index_difficulty.LAWS[-2], dim=32).candidates != usual.candidates).any()


@pytest.mark.parametrize(
    ("missed", "says"),
    [
        ((1, 9), "harder explains the difference: each"),
        ((3, 9), "harder explains the difference of FAISS IVF1000,PQ64x4fs,RFlat, nprobe 40, k_factor 4 only"),
        ((8, 9), "harder explains nothing that was measured here"),
    ],
)
def test_the_report_says_whether_what_was_seen_is_reached(monkeypatch, tmp_path, missed, says):
    lines = _lines(monkeypatch, missed)
    text = index_difficulty_report.section(lines, tmp_path)
    assert text.startswith("## ") and says in text and "only when more is scored again" not in text
    assert "0.910 at latent 24 with noise 0.2 (15.0 measured)" in text
    # 0.97 is more than the 0.969 that were seen of FAISS, and less than the 0.979 of ScaNN.
    reached = [1 - missed[0] / 100 >= least for least in (0.979, 0.969)]
    assert text.count("finds that or more at latent 8 with noise 0.05 (9.0 measured)") == 2 * sum(reached)
    assert "0.2 (15.0 measured): FAISS IVF1000,PQ64x4fs,RFlat, nprobe 40, k_factor 16 changes recall@100 by no" in text
    picture = (tmp_path / "index_difficulty.svg").read_bytes()
    assert index_difficulty_report.section(lines, tmp_path) == text
    assert (tmp_path / "index_difficulty.svg").read_bytes() == picture


def test_what_is_reached_by_scoring_more_again_counts_and_is_told(monkeypatch, tmp_path):
    text = index_difficulty_report.section(_lines(monkeypatch, (8, 12), more=7), tmp_path)
    assert "harder explains the difference: each" in text and text.count("finds that or more at latent 8") == 2
    assert "k_factor 4 finds it only when more is scored again" in text
    assert "rescored 300 (seen: 0.979 at 0.20 ms) finds less at every law; most, 0.920 in" in text
    assert text.count("changes recall@100 by +0.070 [+0.070, +0.070].") == 2
    text = index_difficulty_report.section(_lines(monkeypatch, (8, 9), more=7), tmp_path)
    assert "harder explains nothing" in text, "scoring more again is enough at the usual law"


def test_other_sizes_give_no_answer(monkeypatch, tmp_path):
    text = index_difficulty_report.section(_lines(monkeypatch, (1, 9), lists=224), tmp_path)
    assert "no answer" in text and "explains" not in text and "| 8 | 0.05 | 9.0 | 0.990" in text


def test_lines_of_the_laws_asked_for_and_the_last_line_is_json(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(index_difficulty, "load_frameworks", lambda: None)
    monkeypatch.setattr(index_difficulty, "QUICK", 1_500)
    monkeypatch.setattr(index_difficulty, "structures", lambda size, dim: [index_here.exact()])
    index_difficulty.main(["--quick", "--latent=8", f"--results={tmp_path}"])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    (name,) = figures
    assert name == "1,500, latent 8, noise 0.05" and figures[name]["exact"]["recall@100"] == 1
    truth, line = record.read(tmp_path / "index_difficulty.jsonl")
    assert truth["case"] == f"truth, {name}" and line["dimension"] == pytest.approx(figures[name]["dimension"], abs=0.1)
    assert len(line["wall_seconds"]) == 200
