import subprocess
import sys

import faiss
import numpy as np
import pytest

from retrieval_contract import config
from retrieval_contract.errors import UserError
from retrieval_contract.indexes.conformance import IndexConformance
from retrieval_contract.indexes.planted import clustered, vectors_of
from torch_reference.indexes.faiss_index import FaissIndex


def _settings(factory, **more):
    return config.Index(backend="faiss", faiss_factory=factory, **more)


class TestFlat(IndexConformance):
    index_class = FaissIndex
    settings = _settings("Flat")


class TestIvf(IndexConformance):
    index_class = FaissIndex
    settings = _settings("IVF50,Flat", faiss_nprobe=16)
    least_recall = 0.85
    least_recall_sift = 0.95
    smallest = 50


class TestHnsw(IndexConformance):
    index_class = FaissIndex
    settings = _settings("HNSW16")
    least_recall = 0.95
    least_recall_sift = 0.97


class TestIvfPq(IndexConformance):
    index_class = FaissIndex
    settings = _settings("IVF20,PQ8", faiss_nprobe=10)
    least_recall = 0.95
    least_recall_sift = 0.95
    smallest = 256


@pytest.mark.parametrize(
    "factory",
    ["", "flat", "Flat ", "IVF,Flat", "IVF0,Flat", "HNSW0", "HNSW16,PQ8", "L2norm,Flat", "LSH", "IDMap,Flat", "IVF10"],
)
def test_unsupported_factory_strings_are_refused_with_examples(factory):
    with pytest.raises(
        UserError, match=r"no factory string that is supported .index\.faiss_factory.: use Flat; IVF100"
    ):
        FaissIndex.build(vectors_of(clustered(1_000, 1)[0]), _settings(factory))


def test_codes_that_do_not_divide_the_width_are_refused():
    with pytest.raises(UserError, match=r"'PQ7' for vectors of width 32 .*divides the width") as caught:
        FaissIndex.build(vectors_of(clustered(1_000, 1)[0]), _settings("PQ7"))
    assert "/faiss/" not in str(caught.value), "no C++ source lines"


@pytest.mark.parametrize("factory", ["SQ8", "PQ4", "IVF10,SQ8", "HNSW8,Flat"])
def test_other_supported_factory_strings(factory):
    values_ND, queries_BD = clustered(1_000, 4)
    index = FaissIndex.build(vectors_of(values_ND), _settings(factory))
    assert index._index.metric_type == faiss.METRIC_INNER_PRODUCT
    best_B = index.search(queries_BD, 3, weights_digest="d" * 64).rows[:, 0]
    np.testing.assert_array_equal(best_B, (queries_BD @ values_ND.T).argmax(axis=1))


def test_a_deep_search_is_broader_than_configured():
    values_ND, _ = clustered(1_000, 1)
    lists = FaissIndex.build(vectors_of(values_ND), _settings("IVF20,Flat", faiss_nprobe=2))
    assert [lists._breadth(depth).nprobe for depth in (1, 20, 100, 900)] == [2, 2, 8, 20]
    links = FaissIndex.build(vectors_of(values_ND), _settings("HNSW8", faiss_ef_search=64))
    assert [links._breadth(depth).efSearch for depth in (1, 100)] == [64, 400]


@pytest.mark.skipif(sys.platform == "win32", reason="the limit on file size is POSIX")
@pytest.mark.parametrize("limit", [100, 1_000_000])
def test_a_disk_that_is_full_for_faiss_is_noticed(tmp_path, limit):
    program = f"""
from pathlib import Path
import torch_reference.indexes.faiss_index_test as beside
beside.save_with_limit(Path({str(tmp_path)!r}), {limit})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "OSError: [Errno 27] File too large" in done.stderr


def save_with_limit(folder, limit):
    import resource
    import signal

    num_candidates = 3 if limit < 1_000 else 10_000
    index = FaissIndex.build(vectors_of(clustered(10_000, 1)[0][:num_candidates]), _settings("Flat"))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    index._save(folder)


def test_building_says_nothing(capfd):
    FaissIndex.build(vectors_of(clustered(1_000, 1)[0]), _settings("IVF40,PQ8"))
    assert capfd.readouterr() == ("", "")
