"""Text to embedding rows without a vocabulary: SipHash-2-4 with a fixed key, the same in every process and stack.

TensorFlow has the same hash in its graph: `tf.strings.to_hash_bucket_strong(x, num_buckets, key=HASH_KEYS)`.
Letters: T values, J words of 8 bytes.
"""

import struct
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import siphash24
from numpy.typing import NDArray

from retrieval_contract.arrays import Int32Array, Int64Array
from retrieval_contract.data.vocabulary import FIRST_ROW, UNKNOWN_ROW

UInt64Array = NDArray[np.uint64]
HASH_KEYS = (0x74776F2D746F7765, 0x722D686173682D31)
"""The two halves of the key."""
_KEY = struct.pack("<QQ", *HASH_KEYS)
_START = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)
_CHUNK = 16_384
"""Texts hashed at a time, so that what is computed with stays in the cache."""
_FEW = 32
"""So few texts, as a request has, are hashed one by one in less time than together."""
_LONG = 32
"""Texts of more words than this are few, and are hashed one by one."""


def buckets_of(texts: Iterable[str] | pa.Array, num_buckets: int) -> Int64Array:
    """Bucket of each text [T]: SipHash-2-4 of its UTF-8 bytes, an unsigned number of 64 bits, modulo `num_buckets`.

    Args:
        texts: none missing; distinct ones where speed matters.
        num_buckets: 1 or more.

    Source: Aumasson and Bernstein, SipHash: a fast short-input PRF, 2012.
    """
    array = texts if isinstance(texts, pa.Array) else pa.array(list(texts), pa.string())
    if len(array) <= _FEW:
        each = [text.encode() for text in array.to_pylist()]
        return (_one_by_one(each) % np.uint64(num_buckets)).astype(np.int64)
    return (_hashes(array.cast(pa.large_string())) % np.uint64(num_buckets)).astype(np.int64)


def hashed_rows(values: pa.Array | pa.ChunkedArray, num_buckets: int) -> Int32Array:
    """Embedding row of each value: 2 + its bucket; 1 where it is missing.

    Args:
        values: text [T].
        num_buckets: buckets; the table has two rows more.

    Returns:
        Rows [T].
    """
    if len(values) <= _FEW:
        texts = values.to_pylist()
        buckets = iter(buckets_of([text for text in texts if text is not None], num_buckets).tolist())
        rows = (UNKNOWN_ROW if text is None else FIRST_ROW + next(buckets) for text in texts)
        return np.fromiter(rows, np.int32, len(texts))
    chunked = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])
    encoded = pc.dictionary_encode(chunked).combine_chunks()
    assert isinstance(encoded, pa.DictionaryArray)
    row_of = buckets_of(encoded.dictionary, num_buckets) + FIRST_ROW
    # One place more than there are values, so that a missing one is looked up like the rest.
    places = pc.fill_null(encoded.indices, len(row_of)).to_numpy(zero_copy_only=False)
    return np.append(row_of, UNKNOWN_ROW).astype(np.int32)[places]


def _hashes(texts: pa.Array) -> UInt64Array:
    """Hash of each text [T]; texts of equally many words are computed together."""
    if not len(texts):
        return np.zeros(0, np.uint64)
    bounds = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset :][: len(texts) + 1]
    starts, lengths = bounds[:-1], np.diff(bounds)
    # Eight bytes more, so that a whole word can be read at every byte.
    data = b"".join([texts.buffers()[2] or b"", bytes(8)])
    words = np.ndarray(len(data) - 7, "<u8", buffer=data, strides=(1,))
    hashes = np.zeros(len(texts), np.uint64)
    num_words = lengths // 8 + 1
    for num in np.flatnonzero(np.bincount(num_words, minlength=1)).tolist():
        places = np.flatnonzero(num_words == num)
        if num > _LONG:
            hashes[places] = _one_by_one([data[starts[place] :][: lengths[place]] for place in places.tolist()])
            continue
        for begin in range(0, len(places), _CHUNK):
            some = places[begin : begin + _CHUNK]
            hashes[some] = _siphash(_message_words(words, starts[some], lengths[some], num))
    return hashes


def _message_words(words: UInt64Array, starts: Int64Array, lengths: Int64Array, num: int) -> list[UInt64Array]:
    """The message as J words [T] each; the last holds what is left of it, and its length in the highest byte."""
    message = [words[starts + 8 * place] for place in range(num)]
    bits = (8 * (lengths % 8)).astype(np.uint64)
    rest = message[-1] & ((np.uint64(1) << bits) - np.uint64(1))
    message[-1] = rest | (lengths.astype(np.uint64) << np.uint64(56))
    return message


def _siphash(message: list[UInt64Array]) -> UInt64Array:
    state = [np.full(len(message[0]), _START[i] ^ HASH_KEYS[i % 2], np.uint64) for i in range(4)]
    for word in message:
        state[3] ^= word
        _rounds(state, 2)
        state[0] ^= word
    state[2] ^= np.uint64(0xFF)
    _rounds(state, 4)
    return state[0] ^ state[1] ^ state[2] ^ state[3]


def _rounds(state: list[UInt64Array], num: int) -> None:
    """SipRound, `num` times, in place; sums of 64 bits wrap."""
    for _ in range(num):
        for first, second, bits, turned in ((0, 1, 13, 0), (2, 3, 16, None), (0, 3, 21, None), (2, 1, 17, 2)):
            state[first] += state[second]
            state[second] = _turned(state[second], bits) ^ state[first]
            if turned is not None:
                state[turned] = _turned(state[turned], 32)


def _turned(values: UInt64Array, bits: int) -> UInt64Array:
    return (values << np.uint64(bits)) | (values >> np.uint64(64 - bits))


def _one_by_one(texts: list[bytes]) -> UInt64Array:
    return np.frombuffer(b"".join([siphash24.siphash24(text, key=_KEY).digest() for text in texts]), "<u8")
