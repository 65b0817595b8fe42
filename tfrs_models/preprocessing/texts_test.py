import siphash24
import tensorflow as tf

from retrieval_contract.config import TextFeature
from retrieval_contract.data.fitted import FittedFeature
from tfrs_models.preprocessing.rows import MISSING_TEXT
from tfrs_models.preprocessing.rows_test import KEY
from tfrs_models.preprocessing.texts import encode_text, encode_token_ids


def encoded(texts, **spec):
    spec = TextFeature(name="t", num_buckets=1_000_003, **spec)
    return encode_text(FittedFeature(spec=spec, num_buckets=1_000_003), tf.constant(texts)).numpy().tolist()


def row(gram):
    digest = siphash24.siphash24(gram.encode(), key=KEY).digest()
    return 2 + int.from_bytes(digest, "little") % 1_000_003


def rows(*grams, width):
    return [row(gram) for gram in grams] + [0] * (width - len(grams))


def test_words_are_split_at_ascii_alone():
    texts = ["Don't PANIC—x_9\t2\x00é\u00a0É", "", "  ", MISSING_TEXT, "İ ẞ ı"]
    words = ["don", "t", "panic—x", "9", "2", "é\u00a0É"]
    assert encoded(texts, ngrams=(1,)) == [rows(*words, width=6), *[[0] * 6] * 3, rows("İ", "ẞ", "ı", width=6)]


def test_ngrams_come_by_length_then_place():
    texts = ["a b c", "a"]
    assert encoded(texts) == [rows("a", "b", "c", "a b", "b c", width=5), rows("a", width=5)]
    assert encoded(texts, ngrams=(2, 1)) == [rows("a b", "b c", "a", "b", "c", width=5), rows("a", width=5)]
    assert encoded(texts, ngrams=(3,)) == [rows("a b c", width=1), [0]]


def test_the_first_ngrams_are_kept():
    assert encoded(["a b c d", "a b"], max_length=3) == [rows("a", "b", "c", width=3), rows("a", "b", "a b", width=3)]


def test_characters_are_code_points():
    texts = ["Äx", "e\u0301", "👩\u200d👧"]
    expected = [rows("Äx", width=2), rows("e\u0301", width=2), rows("👩\u200d", "\u200d👧", width=2)]
    assert encoded(texts, tokens="characters", ngrams=(2,)) == expected


def test_token_ids_are_rows_from_two():
    spec = TextFeature(name="t", tokens="tokenizer", tokenizer="t.json", num_buckets=10, max_length=2)
    feature = FittedFeature(spec=spec, num_buckets=10, tokenizer_sha256="0")
    ids = tf.ragged.constant([[0, 9, 5], [], [10, -1]], dtype=tf.int64)
    assert encode_token_ids(feature, ids).numpy().tolist() == [[2, 11], [0, 0], [1, 1]]
