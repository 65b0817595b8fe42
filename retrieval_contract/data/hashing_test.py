import struct
import subprocess
import sys

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
import siphash24
from hypothesis import given

from retrieval_contract.data.hashing import HASH_KEYS, buckets_of, hashed_rows

TEXTS = ["a", "é", "", "1x2", "日本" * 20]
IN_GRAPH = [662558803, 2129530327, 116206182, 677602507, 1895194760]
"""What `tf.strings.to_hash_bucket_strong(TEXTS, 2**31 - 5, key=HASH_KEYS)` of TensorFlow 2.20 gives."""


def test_buckets_are_those_of_the_graph():
    assert buckets_of(TEXTS, 2**31 - 5).tolist() == IN_GRAPH
    assert buckets_of(TEXTS * 9, 2**31 - 5).tolist() == IN_GRAPH * 9, "many are hashed together"


def test_the_hash_is_siphash_2_4_read_as_an_unsigned_number():
    key = struct.pack("<QQ", *HASH_KEYS)
    wanted = [siphash24.siphash24(text.encode(), key=key).intdigest() % 2**64 for text in TEXTS]
    assert any(number >= 2**63 for number in wanted), "a sign would not be noticed"
    assert buckets_of(TEXTS, 10**9 + 7).tolist() == [number % (10**9 + 7) for number in wanted]


@given(st.lists(st.text(max_size=40) | st.integers(0, 300).map(lambda num: "é" * num), max_size=30))
def test_texts_hashed_together_are_those_of_the_library(texts):
    texts = [text.encode(errors="ignore").decode() for text in texts]
    key = struct.pack("<QQ", *HASH_KEYS)
    wanted = [siphash24.siphash24(text.encode(), key=key).intdigest() % 2**64 % (2**63 - 25) for text in texts]
    assert buckets_of(texts, 2**63 - 25).tolist() == wanted
    many = [*texts, *map(str, range(40))]
    assert buckets_of(many, 2**63 - 25).tolist()[: len(texts)] == wanted
    assert buckets_of(pa.array(["x", *many], pa.large_string()).slice(1), 2**63 - 25).tolist()[: len(texts)] == wanted


def test_many_texts_of_one_length_are_those_of_the_library():
    texts = [f"v{number:07d}" for number in range(40_000)]
    key = struct.pack("<QQ", *HASH_KEYS)
    some = range(0, 40_000, 997)
    buckets = buckets_of(texts, 10**9)
    assert [buckets[i] for i in some] == [
        siphash24.siphash24(texts[i].encode(), key=key).intdigest() % 2**64 % 10**9 for i in some
    ]


def test_another_process_hashes_alike():
    code = f"from retrieval_contract.data.hashing import buckets_of; print(buckets_of({TEXTS!r}, 1000).tolist())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == str(buckets_of(TEXTS, 1000).tolist())


def test_rows_begin_behind_unknown_and_missing_is_unknown():
    rows = hashed_rows(pa.array(["a", None, "é", "a", ""]), 10)
    assert rows.dtype == np.int32
    assert rows.tolist() == [2 + buckets_of("a", 10)[0], 1, 2 + buckets_of(["é"], 10)[0], rows[0], rows[4]]
    assert hashed_rows(pa.array(["a", "b"]), 1).tolist() == [2, 2]
    many = hashed_rows(pa.chunked_array([["a", None, "é"] * 20, []], pa.string()), 10)
    assert many.dtype == np.int32
    assert many.tolist() == rows[:3].tolist() * 20


@pytest.mark.parametrize(
    "values",
    [
        pa.chunked_array([["a", "b"], ["c", None], ["a"]], pa.string()),
        pa.array(["a", "b", "c", None, "a"]),
        pa.chunked_array([pa.array(["z", "a", "b", "c", None, "a"])]).slice(1),
    ],
)
def test_chunks_and_slices_read_right(values):
    each = [1 if value is None else 2 + int(buckets_of([value], 97)[0]) for value in values.to_pylist()]
    assert hashed_rows(values, 97).tolist() == each


def test_nothing_and_only_missing_values():
    assert hashed_rows(pa.array([], pa.string()), 5).tolist() == []
    assert hashed_rows(pa.chunked_array([], pa.string()), 5).tolist() == []
    assert hashed_rows(pa.array([None, None], pa.string()), 5).tolist() == [1, 1]


def test_buckets_fill_evenly():
    counts = np.bincount(buckets_of([f"v{number}" for number in range(20_000)], 16), minlength=16)
    assert ((counts > 1_100) & (counts < 1_400)).all()
