"""Codes lose what they should, wrong answers are noticed, and the claim is answered by the numbers found."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import compression, compression_report, index_faiss
from benchmarks.compression import checked, rescored
from benchmarks.compression_codes import codes
from benchmarks.index_planted import planted
from retrieval_contract.indexes.stored import StoredVectors

CHOSEN = ("FAISS Flat", "FAISS SQ8", "FAISS SQ4", "FAISS PQ8", "here int8")


@pytest.fixture(scope="module")
def asked():
    importlib.import_module("torch_reference")
    return planted()


@pytest.fixture(scope="module")
def lines(asked):
    chosen = [code for code in codes() if code.structure.name in CHOSEN]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compression, "codes", lambda quick: chosen)
        patch.setattr(compression, "RESCORED", 300)
        return json.loads(json.dumps(list(compression.coded(asked))))


def test_bytes_of_every_code():
    sizes = {code.structure.name.partition(",")[0]: code.num_bytes(128) for code in codes()}
    assert sizes["FAISS Flat"] == 512 and sizes["FAISS SQbf16"] == 256 and sizes["here int8"] == 132
    assert [sizes[f"FAISS {words}"] for words in ("SQ8", "SQ6", "SQ4")] == [128, 96, 64]
    assert [sizes[f"FAISS PQ{num}"] for num in (8, 16, 32, 64)] == [8, 16, 32, 64]
    assert len({code.structure.name for code in codes()}) == len(codes())
    assert {code.num_bytes(128) for code in codes() if code.structure.library == "ScaNN"} == {32, 16}


def test_fewer_bytes_find_less_and_scoring_again_mends_it(lines):
    recall = {line["setting"]: line["recall"]["recall@100"] for line in lines if "recall" in line}
    assert recall["FAISS Flat"] == 1 > recall["FAISS SQ8"] > recall["FAISS SQ4"] > recall["FAISS PQ8"]
    assert recall["here int8"] > recall["FAISS SQ4"]
    again = [recall[f"FAISS PQ8, 300 again by {kept}"] for kept in ("int8", "float32")]
    assert recall["FAISS PQ8"] < again[0] <= again[1]
    (line,) = (line for line in lines if line.get("setting") == "FAISS PQ8, 300 again by float32")
    assert (line["code_bytes"], line["bytes"]) == (8, 8 + 4 * 32)


def test_scoring_again_ranks_by_the_vectors_kept(asked):
    stored = StoredVectors.keep(asked.candidates, "float32")
    shuffled = np.random.default_rng(0).permuted(asked.truth, axis=1)
    np.testing.assert_array_equal(rescored(stored, asked.queries, shuffled), asked.truth[:, :100])


def test_wrong_answers_are_noticed(asked):
    right = asked.truth[:, :100]
    with pytest.raises(AssertionError, match="a row twice"):
        checked("x", np.where(np.arange(100) == 5, right[:, :1], right), asked, is_exact=False)
    with pytest.raises(AssertionError, match="exact and misses"):
        checked("x", asked.truth[:, 50:150], asked, is_exact=True)
    assert checked("x", asked.truth[:, 50:150], asked, is_exact=False)["recall@100"] == 0.5


def test_the_report_answers_the_claim(lines, tmp_path):
    text = compression_report.section(lines, tmp_path)
    first = (tmp_path / "compression_1500.svg").read_bytes()
    assert compression_report.section(lines, tmp_path) == text
    assert (tmp_path / "compression_1500.svg").read_bytes() == first
    said = " ".join(text.split())
    assert "128 bytes to 8 are 16 times smaller" in said and "the claim does not hold" in said
    assert "| FAISS SQ4 | 16 | 8 |" in text and "what recall each GB buys" in text


def test_an_index_is_served_by_a_process_of_its_own(asked, monkeypatch, tmp_path):
    monkeypatch.setattr(compression, "SERVED", {"IVF{lists},SQ8": {"nprobe": 39}})
    truth, line = compression.served(asked)
    assert truth["case"] == "truth, clustered, 1,500" and line["recall"]["recall@100"] > 0.95
    assert line["resident_bytes"] is None or line["resident_bytes"] > line["process_bytes"] > 1e6
    assert "One million" in compression_report.section([truth, line], tmp_path)


def test_what_is_written_is_what_was_searched(tmp_path):
    values = np.random.default_rng(0).standard_normal((2_000, 16)).astype(np.float32)
    searcher = index_faiss.factory("IVF20,SQ8", nprobe=(5,)).build(values)
    here = searcher.search(values[:4], 10, {"nprobe": 5}, 1)
    searcher.save(tmp_path)
    np.save(tmp_path / "q.npy", values[:4])
    words = ["-m", "benchmarks.index_resident", str(tmp_path / index_faiss.FILE), str(tmp_path / "q.npy"), "10"]
    done = subprocess.run([sys.executable, *words], cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == here.tolist(), "the widths are written too"
