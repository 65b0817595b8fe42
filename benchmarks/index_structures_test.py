"""Every structure finds what it should on a small data set, and what a build takes is seen."""

import importlib
import importlib.util

import numpy as np
import pytest

from benchmarks import index_faiss, index_here, index_hnswlib, index_scann, index_structures
from benchmarks.index_lineup import AFFORDED, lineup
from benchmarks.index_neighbours import recalls
from benchmarks.index_planted import planted
from benchmarks.index_structures import Searcher, Structure, built, threads

needs_scann = pytest.mark.skipif(
    importlib.util.find_spec("scann") is None, reason="the package scann exists for Linux only"
)
needs_hnswlib = pytest.mark.skipif(not index_hnswlib.available(), reason="hnswlib is not installed")


@pytest.fixture(scope="module")
def asked():
    importlib.import_module("torch_reference")
    return planted()


MADE = {
    "exact": (index_here.exact, 1.0),
    "flat": (index_faiss.flat, 1.0),
    "refined": (lambda: index_faiss.factory("IVF20,PQ16x4fs,RFlat", nprobe=(2, 20), k_factor=(4,)), 0.99),
    "graph": (lambda: index_faiss.factory("HNSW32", ef=(10, 300)), 0.99),
    "partitioned": (lambda: index_here.partitioned((1, 155)), 0.99),
}


@pytest.mark.parametrize("name", MADE)
def test_a_wide_search_finds_the_truth_and_a_narrow_one_less(name, asked):
    make, least = MADE[name]
    _looks(make(), least, asked)


@needs_scann
@pytest.mark.parametrize("leaves", [None, 20])
def test_scann(leaves, asked):
    _looks(index_scann.hashed(leaves=leaves, searched=(2, 20), rescored=(100, 600)), 0.98, asked)


@needs_scann
def test_where_the_leaves_of_scann_hold_too_few_there_is_no_row(asked):
    structure = index_scann.hashed(leaves=100, searched=(1,), rescored=(300,))
    search = structure.build(asked.candidates).search
    for num_threads in (1, 2):
        rows = search(asked.queries, 100, structure.widths[0], num_threads)
        assert rows.shape == (12, 100) and (rows == -1).any() and (rows >= 0).any()
        for row in rows:
            present = row[row >= 0]
            assert len(set(present.tolist())) == len(present)


@needs_hnswlib
def test_hnswlib(asked):
    _looks(index_hnswlib.graph((100, 400)), 0.99, asked)


def _looks(structure, least, asked):
    made = built(structure, asked.candidates)
    found = []
    for width in structure.widths:
        with threads(1):
            rows = made.search(asked.queries, 100, width, 1)
        assert rows.shape == (12, 100) and rows.dtype == np.int32
        found.append(recalls(rows, asked.truth, 100).mean())
        with threads(2):
            batched = made.search(asked.queries, 100, width, 2)
        assert recalls(batched, asked.truth, 100).mean() == pytest.approx(found[-1], abs=0.02)
    assert found[-1] >= least and found[0] <= found[-1]
    assert made.disk_bytes > 20_000 and made.times.wall[0] > 0


def test_memory_at_the_peak_is_seen_though_it_is_given_back():
    def build(values):
        np.ones(30_000_000, np.float64).sum()
        return Searcher(search=lambda *asked: values, save=lambda folder: (folder / "x").write_bytes(b"1234"))

    made = built(Structure(name="", library="", settings={}, widths=(), build=build), np.zeros((2, 2), np.float32))
    if made.peak_bytes is None:
        pytest.skip("memory is told on Linux only")
    assert 230e6 < made.peak_bytes < 400e6 and made.disk_bytes == 4


def test_where_memory_cannot_be_told_nothing_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(index_structures, "CLEAR", tmp_path / "none" / "clear_refs")
    structure = Structure(
        name="", library="", settings={}, widths=(), build=lambda values: Searcher(search=len, save=None)
    )
    assert built(structure, np.zeros((2, 2), np.float32)).peak_bytes is None


@pytest.mark.parametrize(("size", "dim"), [(4_800, 136), (100_000, 128), (1_000_000, 128)])
def test_lineups(size, dim):
    names = [each.name for each in lineup(size, dim, full=True)]
    some = [each.name for each in lineup(size, dim, full=False)]
    assert len(set(names)) == len(names) and set(some) <= set(names)
    quick = [each.name for each in lineup(size, dim, full=False, quick=True)]
    assert {name.rpartition(",")[2] for name in set(names) - set(quick)} == {f"PQ{dim // 4}"}
    if size == 1_000_000:
        assert len(some) == len(AFFORDED) < len(names)
        (tree,) = (each for each in lineup(size, dim, full=False) if "SOAR" in each.name)
        assert {"leaves": 20, "rescored": 300} in tree.widths and tree.settings["leaves"] == 1_000
        (fast,) = (each for each in lineup(size, dim, full=False) if "x4fs" in each.name)
        assert {"nprobe": 40, "k_factor": 4} in fast.widths and fast.name == "FAISS IVF1000,PQ64x4fs,RFlat"
    else:
        assert some == names
