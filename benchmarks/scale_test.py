"""A size is measured at the recall that is asked for, its growth is fitted, and its prediction is put to the test."""

import importlib

import numpy as np
import pytest

from benchmarks import scale, scale_report, scale_vectors
from benchmarks.index_found import by_dataset
from benchmarks.scale_vectors import ChunkedVectors


@pytest.fixture(scope="module")
def lines():
    importlib.import_module("torch_reference")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scale_vectors, "CHUNK", 1_500)
        patch.setattr(scale, "NUM_QUERIES", 20)
        return [scale.measured(size, dim=32) for size in (2_000, 3_000, 4_000)]


def test_chunks_are_one_draw_that_can_be_gone_through_again(monkeypatch):
    monkeypatch.setattr(scale_vectors, "CHUNK", 300)
    vectors = ChunkedVectors(1_000, 5, 32, seed=0)
    first, again = (np.concatenate(list(vectors.chunks())) for _ in range(2))
    assert first.shape == (1_000, 32) and vectors.queries.shape == (5, 32) and vectors.sample(50).shape == (50, 32)
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(np.concatenate([first, vectors.sample(50), vectors.queries]), axis=0)) == 1_055


def test_every_size_finds_what_is_asked_for_and_no_more_lists_than_that(lines):
    for size, (truth, line, scan) in zip((2_000, 3_000, 4_000), lines, strict=True):
        ((found,),) = by_dataset([truth, line]).values()
        assert found.mean() >= 0.95 and line["settings"]["candidates"] == size
        assert 0 < line["settings"]["nprobe"] < line["settings"]["lists"] == round(size**0.5)
        assert len(line["wall_seconds"]) == 20 and len(scan["wall_seconds"]) == 20
        # A code of 4 bits for two dimensions, 8 bits a number, and the number of the row.
        assert size * (8 + 32 + 8) < line["disk_bytes"] < size * (8 + 32 + 8) + 60_000


def test_what_cannot_be_found_is_said(monkeypatch):
    truth = np.zeros((4, 100), np.int32)
    index = importlib.import_module("faiss").index_factory(8, "IVF3,PQ4x4fs,Refine(SQ8)", 0)
    values = np.random.default_rng(0).standard_normal((500, 8)).astype(np.float32)
    index.train(values)
    index.add(values)
    with pytest.raises(AssertionError, match="all 3 lists find 0"):
        scale.searched(index, values[:4], truth - 1)


def test_a_wrong_truth_is_noticed(monkeypatch):
    values = np.random.default_rng(0).standard_normal((500, 8)).astype(np.float32)
    scale.check_truth(values, values[:3])
    monkeypatch.setattr(scale.Truth, "rows", property(lambda self: np.tile(np.arange(100, dtype=np.int32), (3, 1))))
    with pytest.raises(AssertionError, match="of the truth"):
        scale.check_truth(values, values[:3])


def _growing(lines, exponents):
    """The lines of one size as those of five, whose costs grow by known powers."""
    told = []
    for size in (10_000, 31_623, 100_000, 316_228, 1_000_000):
        truth, line, _ = lines[0]
        name = f"clustered, {size:,}"
        settings = {"dataset": name, "candidates": size}
        told.append({**truth, "case": f"truth, {name}", "settings": truth["settings"] | settings})
        build, query, disk = (size**power for power in exponents)
        costs = {"build_cpu_seconds": 1e-4 * build, "wall_seconds": [1e-6 * query] * 20, "disk_bytes": 176 * disk}
        told.append({**line, "case": f"{name}, index", "settings": line["settings"] | settings, **costs})
    return told


def test_the_report_fits_predicts_and_estimates(lines, tmp_path):
    told = _growing(lines, (1.2, 0.5, 1.0))
    text = scale_report.section(told, tmp_path)
    first = (tmp_path / "scale.svg").read_bytes()
    assert scale_report.section(told, tmp_path) == text and (tmp_path / "scale.svg").read_bytes() == first
    text = f"{text}\n{' '.join(text.split())}"
    assert "building as N^1.20, a query as N^0.50 and bytes on disk as N^1.00" in text
    assert "predicting 1,000,000 from the 4 smaller sizes" in text and "10,000,000 candidates were not measured" in text
    # 176 GB over 0.7 of 20 GiB and of 256 GiB.
    (row,) = (row for row in text.splitlines() if row.startswith("| 1,000,000,000 |"))
    assert "| 12: " in row and "| 1: " in row


def test_a_prediction_that_fails_is_said(lines, tmp_path, monkeypatch):
    monkeypatch.setattr(scale_report, "plot", lambda *of: None)
    told = _growing(lines, (1.2, 0.5, 1.0))
    told[-1]["build_cpu_seconds"] *= 3
    said = " ".join(scale_report.section(told, tmp_path).split())
    assert "Outside the interval of the power law lies: building" in said


def test_two_sizes_are_shown_without_a_fit(lines, tmp_path):
    text = scale_report.section(_growing(lines, (1, 1, 1))[:4], tmp_path)
    assert "| 31,623 |" in text and "N^" not in text and not (tmp_path / "scale.svg").exists()
