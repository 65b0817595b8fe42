"""Text features: words, characters or a tokenizer's tokens of each text, as padded lists of rows.

Letters: E entities, M tokens of a text, T tokens of all distinct texts, G distinct n-grams.
"""

import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrieval_contract.arrays import Int32Array, Int64Array
from retrieval_contract.config import TextFeature
from retrieval_contract.data.feature_table import FeatureTable
from retrieval_contract.data.fitted import FittedFeature
from retrieval_contract.data.hashing import buckets_of
from retrieval_contract.data.vocabulary import FIRST_ROW, UNKNOWN_ROW
from retrieval_contract.errors import UserError

BLOCK = 50_000
"""Distinct texts taken at a time, which bounds the memory of their n-grams."""
NO_WORD = r"[\x00-\x2F\x3A-\x40\x5B-\x60\x7B-\x7F]+"
"""What stands between words: ASCII that is neither letter nor digit."""


def fit_text(spec: TextFeature, data_dir: Path) -> FittedFeature:
    """Nothing is learnt; a tokenizer's file is read and remembered by its digest.

    Raises:
        UserError: the file cannot be read or has ids beyond `num_buckets`, or the library is not installed.
    """
    if spec.tokenizer is None:
        return FittedFeature(spec=spec, num_buckets=spec.num_buckets)
    tokenizer, digest = _tokenizer(spec, data_dir)
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    if largest >= spec.num_buckets:
        raise UserError(
            f"feature {spec.name!r} has num_buckets {spec.num_buckets}, and its tokenizer's largest id is {largest}",
            where=str(data_dir / spec.tokenizer),
            todo=f"set num_buckets to {largest + 1}",
        )
    return FittedFeature(spec=spec, num_buckets=spec.num_buckets, tokenizer_sha256=digest)


def encode_text(feature: FittedFeature, table: FeatureTable) -> Int32Array:
    """Rows of the first tokens or n-grams of each text [E, M], padded with 0 behind; M is the longest kept, at least 1.

    A missing text has none.

    Raises:
        UserError: a column of something else than single values, or the tokenizer's file is absent or another one.
    """
    spec = feature.spec
    assert isinstance(spec, TextFeature)
    encoded = pc.dictionary_encode(table.text(spec)).combine_chunks()
    # One text more than there are, empty: what a missing one is looked up as.
    texts = [*encoded.dictionary.to_pylist(), ""]
    blocks = [
        _rows_of_texts(feature, spec, texts[begin : begin + BLOCK], table.data_dir)
        for begin in range(0, len(texts), BLOCK)
    ]
    width = max(block.shape[1] for block in blocks)
    rows_UM = np.concatenate([np.pad(block, ((0, 0), (0, width - block.shape[1]))) for block in blocks])
    return rows_UM[pc.fill_null(encoded.indices, len(texts) - 1).to_numpy(zero_copy_only=False)]


def rows_of_token_ids(feature: FittedFeature, ids_T: Int64Array, lengths_E: Int64Array) -> Int32Array:
    """Rows of token ids that somebody else's tokenizer gave [E, M], as `encode_text` gives them for texts.

    Args:
        feature: a fitted text feature of a tokenizer.
        ids_T: ids of all texts, end to end; one that no row is kept for becomes unknown.
        lengths_E: ids of each text.
    """
    spec = feature.spec
    assert isinstance(spec, TextFeature)
    rows_T = np.where((ids_T >= 0) & (ids_T < spec.num_buckets), ids_T + FIRST_ROW, UNKNOWN_ROW)
    return _padded([(rows_T, lengths_E)], spec.max_length)


def _rows_of_texts(feature: FittedFeature, spec: TextFeature, texts: list[str], data_dir: Path) -> Int32Array:
    """Rows [U, M] of distinct texts."""
    if spec.tokens == "tokenizer":
        ids, lengths_U = _token_ids(feature, spec, texts, data_dir)
        return _padded([(ids + FIRST_ROW, lengths_U)], spec.max_length)
    # More tokens than this reach no place that is kept.
    most = spec.max_length + max(spec.ngrams) - 1
    codes_T, lengths_U, tokens = _words(texts, most) if spec.tokens == "words" else _characters(texts, most)
    joint = " " if spec.tokens == "words" else ""
    parts = []
    for size in spec.ngrams:
        grams_T, gram_lengths_U, names = _ngrams(codes_T, lengths_U, size, tokens, joint)
        parts.append(((buckets_of(names, spec.num_buckets) + FIRST_ROW)[grams_T], gram_lengths_U))
    return _padded(parts, spec.max_length)


def _words(texts: list[str], most: int) -> tuple[Int64Array, Int64Array, pa.Array]:
    """Number of each word [T], words of each text [U], and the words by number."""
    lowered = pc.ascii_lower(pa.array(texts, pa.string()))
    spaced = pc.utf8_trim(pc.replace_substring_regex(lowered, NO_WORD, " "), " ")
    lists = pc.list_slice(pc.split_pattern(spaced, " "), 0, most)
    lengths_U = pc.list_value_length(lists).to_numpy().astype(np.int64)
    # The empty text splits into one empty word.
    lengths_U[pc.equal(spaced, "").to_numpy(zero_copy_only=False)] = 0
    flat = pc.list_flatten(lists)
    encoded = pc.dictionary_encode(flat.filter(pc.not_equal(flat, "")))
    return encoded.indices.to_numpy().astype(np.int64), lengths_U, encoded.dictionary


def _characters(texts: list[str], most: int) -> tuple[Int64Array, Int64Array, pa.Array]:
    """Number of each code point [T], code points of each text [U], and the characters by number."""
    cut = pc.utf8_slice_codeunits(pc.ascii_lower(pa.array(texts, pa.string())), 0, most)
    lengths_U = pc.utf8_length(cut).to_numpy().astype(np.int64)
    points_T = np.frombuffer("".join(cut.to_pylist()).encode("utf-32-le"), "<u4")
    # A table of all code points is faster than sorting them.
    seen = np.zeros(0x110000, np.int64)
    seen[points_T] = 1
    points = np.flatnonzero(seen)
    seen[points] = np.arange(len(points))
    characters = pa.array([chr(point) for point in points.tolist()], pa.string())
    return seen[points_T], lengths_U, characters


def _ngrams(
    codes_T: Int64Array, lengths_U: Int64Array, size: int, tokens: pa.Array, joint: str
) -> tuple[Int64Array, Int64Array, pa.Array]:
    """Number of each n-gram, n-grams of each text [U], and the n-grams by number."""
    lengths = np.maximum(lengths_U - size + 1, 0)
    begins = np.repeat(np.cumsum(lengths_U) - lengths_U, lengths)
    starts = begins + np.arange(len(begins)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    grams, names = codes_T[starts], tokens
    for place in range(1, size):
        # Only distinct ones are made, each of the one that is a token shorter.
        encoded = pa.array(grams * len(tokens) + codes_T[starts + place]).dictionary_encode()
        before, last = np.divmod(encoded.dictionary.to_numpy(), max(len(tokens), 1))
        names = pc.binary_join_element_wise(names.take(pa.array(before)), tokens.take(pa.array(last)), joint)
        grams = encoded.indices.to_numpy().astype(np.int64)
    return grams, lengths, names


def _padded(parts: Sequence[tuple[Int64Array, Int64Array]], max_length: int) -> Int32Array:
    """Put flat lists, each with its lengths [U], one behind the other into rows [U, M], 0 behind."""
    totals_U = np.sum([lengths_U for _, lengths_U in parts], axis=0)
    num_kept = max(int(np.minimum(totals_U, max_length).max(initial=0)), 1)
    rows_UM = np.zeros((len(totals_U), num_kept), np.int32)
    filled_U = np.zeros(len(totals_U), np.int64)
    for flat, lengths_U in parts:
        texts = np.repeat(np.arange(len(lengths_U)), lengths_U)
        places = np.arange(len(texts)) - (np.cumsum(lengths_U) - lengths_U - filled_U)[texts]
        kept = places < num_kept
        rows_UM[texts[kept], places[kept]] = flat[kept]
        filled_U += lengths_U
    return rows_UM


# ---------------------------------------------------------------- tokenizers


def _token_ids(
    feature: FittedFeature, spec: TextFeature, texts: list[str], data_dir: Path
) -> tuple[Int64Array, Int64Array]:
    """Token ids of all texts, end to end, and tokens of each text [U]."""
    tokenizer, digest = _tokenizer(spec, data_dir)
    if digest != feature.tokenizer_sha256:
        raise UserError(
            f"feature {spec.name!r} was fitted with a tokenizer of SHA-256 {feature.tokenizer_sha256}, and this file "
            f"has {digest}",
            where=str(data_dir / str(spec.tokenizer)),
            todo="give the file that the run was trained with",
        )
    encoded = tokenizer.encode_batch(texts, add_special_tokens=False)
    ids = [item.ids[: spec.max_length] for item in encoded]
    lengths_U = np.array([len(tokens) for tokens in ids], np.int64)
    return np.fromiter(itertools.chain.from_iterable(ids), np.int64, int(lengths_U.sum())), lengths_U


def _tokenizer(spec: TextFeature, data_dir: Path) -> tuple[Any, str]:
    """Tokenizer of a file, without truncation and padding, and the file's SHA-256."""
    assert spec.tokenizer is not None
    path = data_dir / spec.tokenizer
    try:
        import tokenizers
    except ImportError:
        what = f"feature {spec.name!r} needs the library tokenizers, which is not installed"
        raise UserError(what, where=str(path), todo="pip install 'two-tower-retrieval[text]'") from None
    try:
        text = path.read_bytes()
    except OSError as error:
        what = f"feature {spec.name!r}: cannot read the tokenizer: {error.strerror}"
        todo = "give a tokenizer.json; a relative name starts from source.data_dir"
        raise UserError(what, where=str(path), todo=todo) from None
    try:
        tokenizer = tokenizers.Tokenizer.from_buffer(text)
    except Exception as error:
        what = f"feature {spec.name!r}: not a tokenizer file: {error}"
        raise UserError(what, where=str(path), todo="give a tokenizer.json of the tokenizers library") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer, hashlib.sha256(text).hexdigest()
