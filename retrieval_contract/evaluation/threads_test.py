"""Every block is done once, and a failure comes out."""

import re

import pytest

from retrieval_contract.evaluation.threads import _blas, in_threads


def _blas_threads():
    """Threads of NumPy's and SciPy's BLAS. FAISS brings one of its own, whose OpenMP counts threads by thread."""
    libraries = [library for library in _blas().info() if library["user_api"] == "blas"]
    return [library["num_threads"] for library in libraries if re.search("numpy|scipy", library["filepath"])]


def test_every_block_once_on_one_core_of_blas_each():
    done, before = [], _blas_threads()
    assert before, "no BLAS was found, so nothing would be shown"
    in_threads(lambda block: done.append((block, set(_blas_threads()))), range(20))
    assert sorted(block for block, _ in done) == list(range(20))
    assert all(threads == {1} for _, threads in done)
    assert _blas_threads() == before


def test_failure_comes_out():
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda block: 1 / (block - 3), range(9))


def test_no_block_is_no_work():
    in_threads(lambda block: 1 / 0, [])
