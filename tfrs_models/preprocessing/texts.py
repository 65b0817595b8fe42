"""Texts to rows of hashed n-grams, in the graph.

Letters: B examples, M n-grams of a text.
"""

from typing import Any

import tensorflow as tf

from retrieval_contract.config import TextFeature
from retrieval_contract.data.fitted import FittedFeature
from retrieval_contract.data.texts import NO_WORD
from retrieval_contract.data.vocabulary import FIRST_ROW, UNKNOWN_ROW
from tfrs_models.preprocessing.lists import padded
from tfrs_models.preprocessing.rows import MISSING_TEXT, HashedRows


def encode_text(feature: FittedFeature, texts_B: tf.Tensor) -> tf.Tensor:
    """Words or characters, their n-grams by length and then by place, hashed; the first `max_length` of them.

    Only ASCII letters are lowered: what Unicode calls lower case differs between libraries and their versions.

    Args:
        feature: a fitted text feature of words or characters.
        texts_B: UTF-8; a missing text has no n-gram.

    Returns:
        Rows int32 [B, M], padded with 0 behind; M is the most that a text keeps, at least 1.
    """
    spec = feature.spec
    assert isinstance(spec, TextFeature)
    assert spec.tokens != "tokenizer"
    lowered_B = tf.strings.lower(tf.where(texts_B == MISSING_TEXT, "", texts_B))
    tokens, joint = _tokens(spec, lowered_B), " " if spec.tokens == "words" else ""
    grams = [tf.strings.ngrams(tokens, size, separator=joint) for size in spec.ngrams]
    rows = HashedRows(spec.num_buckets)(grams[0] if len(grams) == 1 else tf.concat(grams, axis=1))
    return padded(rows, spec.max_length)


def encode_token_ids(feature: FittedFeature, ids: Any) -> tf.Tensor:
    """Token ids that the feature's tokenizer gave, without special tokens: the first `max_length` of them.

    The graph holds no tokenizer: stock TensorFlow has none that reads the file. Whoever calls an exported model runs
    the tokenizer of the run's configuration.

    Args:
        feature: a fitted text feature of a tokenizer.
        ids: int64 ragged [B, M]; an id that no row is kept for becomes unknown.

    Returns:
        Rows int32 [B, M], 2 + id, padded with 0 behind.
    """
    spec = feature.spec
    assert isinstance(spec, TextFeature)
    known = tf.logical_and(ids.flat_values >= 0, ids.flat_values < spec.num_buckets)
    rows = tf.cast(tf.where(known, ids.flat_values + FIRST_ROW, UNKNOWN_ROW), tf.int32)
    return padded(ids.with_flat_values(rows), spec.max_length)


def _tokens(spec: TextFeature, lowered_B: tf.Tensor) -> Any:
    """Words or characters of each text, ragged."""
    if spec.tokens == "characters":
        return tf.strings.unicode_split(lowered_B, "UTF-8")
    return tf.strings.split(tf.strings.regex_replace(lowered_B, NO_WORD, " "))
