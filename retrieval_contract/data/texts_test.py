import builtins
import re

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given

from retrieval_contract.config import TextFeature
from retrieval_contract.data import texts
from retrieval_contract.data.feature_table import FeatureTable
from retrieval_contract.data.hashing import buckets_of
from retrieval_contract.data.texts import encode_text, fit_text
from retrieval_contract.errors import UserError

TEXT = st.text(st.characters(codec="utf-8") | st.sampled_from("aAbZ 09_-|é日\x00\n🎬"), max_size=30)


def table(values, data_dir=None, kind=None):
    column = pa.chunked_array([pa.array(values, kind or pa.string())])
    path = {} if data_dir is None else {"data_dir": data_dir}
    return FeatureTable(
        table=pa.table({"x": column}), name="candidates", side="candidate", num_rows=len(values), **path
    )


def encode(values, **settings):
    rows = table(values)
    return encode_text(fit_text(TextFeature(name="x", **settings), rows.data_dir), rows)


def lists(rows):
    return [[row for row in line if row] for line in rows.tolist()]


def hashed(grams, num_buckets=10_000):
    return (2 + buckets_of(grams, num_buckets)).tolist()


def test_words_then_pairs_of_words():
    rows = encode(["The Big-Lebowski (1998)", "x"])
    assert rows.dtype == np.int32
    assert lists(rows) == [
        hashed(["the", "big", "lebowski", "1998", "the big", "big lebowski", "lebowski 1998"]),
        hashed(["x"]),
    ]


def test_what_lies_beyond_ascii_is_part_of_a_word_and_keeps_its_case():
    assert lists(encode(["L'Été à Paris…!", "日本 — ÉÉ"], ngrams=(1,))) == [
        hashed(["l", "Été", "à", "paris…"]),
        hashed(["日本", "—", "ÉÉ"]),
    ]


@pytest.mark.parametrize("text", [None, "", "  ", "!?", "\x00"])
def test_a_text_without_words_is_all_padding(text):
    assert encode([text]).tolist() == [[0]]
    assert encode([text, "a b"], ngrams=(1,)).tolist() == [[0, 0], *[hashed(["a", "b"])]]


def test_characters_are_code_points_of_the_whole_text():
    assert lists(encode(["Aé b🎬"], tokens="characters", ngrams=(3, 1))) == [
        hashed(["aé ", "é b", " b🎬", "a", "é", " ", "b", "🎬"])
    ]


def test_only_the_first_are_kept_in_the_order_of_the_lengths():
    assert lists(encode(["a b c d e"], ngrams=(2, 1), max_length=6)) == [hashed(["a b", "b c", "c d", "d e", "a", "b"])]
    assert lists(encode(["a b c d e"], ngrams=(3,), max_length=1)) == [hashed(["a b c"])]


def grams_of(text, tokens, ngrams):
    """One text, plainly."""
    lowered = "".join(char.lower() if "A" <= char <= "Z" else char for char in text or "")
    units = re.findall(r"[A-Za-z0-9\u0080-\U0010ffff]+", lowered) if tokens == "words" else list(lowered)
    joint = " " if tokens == "words" else ""
    return [joint.join(units[i : i + n]) for n in ngrams for i in range(len(units) - n + 1)]


@given(
    st.lists(st.none() | TEXT, min_size=1, max_size=12),
    st.sampled_from(["words", "characters"]),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.integers(1, 9),
)
def test_any_texts_encode_as_one_by_one(values, tokens, ngrams, max_length):
    rows = encode(values, tokens=tokens, ngrams=tuple(ngrams), max_length=max_length, num_buckets=50)
    wanted = [hashed(grams_of(text, tokens, ngrams), 50)[:max_length] for text in values]
    assert rows.shape == (len(values), max(1, *map(len, wanted), 0))
    assert lists(rows) == wanted


def test_texts_taken_in_blocks_are_those_taken_at_once(monkeypatch):
    words = [None, "a", "b c d e f", "", "g h", "a b", "i"] * 3
    whole = encode(words)
    monkeypatch.setattr(texts, "BLOCK", 2)
    np.testing.assert_array_equal(encode(words), whole)


def test_numbers_are_text_and_lists_are_refused():
    assert lists(encode_text(fit_text(TextFeature(name="x"), None), table([12, None], kind=pa.int64())))[0] == hashed(
        ["12"]
    )
    with pytest.raises(UserError, match=r"list.*cannot be read as text \[candidates, column x\]"):
        encode_text(fit_text(TextFeature(name="x"), None), table([["a"]], kind=pa.list_(pa.string())))


# ---------------------------------------------------------------- tokenizers


@pytest.fixture
def tokenizer(tmp_path):
    """A tokenizer of five words that truncates to two tokens, pads, and puts a mark in front."""
    tokenizers = pytest.importorskip("tokenizers")
    from tokenizers import models, pre_tokenizers, processors

    words = {"[UNK]": 0, "[CLS]": 1, "big": 2, "the": 3, "été": 7}
    made = tokenizers.Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 1)])
    made.enable_truncation(2)
    made.enable_padding(length=4)
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def of_tokens(**settings):
    return TextFeature(name="x", tokens="tokenizer", **{"tokenizer": "tokenizer.json", "num_buckets": 8, **settings})


def test_token_ids_come_without_marks_padding_or_the_files_truncation(tokenizer):
    feature = fit_text(of_tokens(), tokenizer)
    assert feature.num_rows == 10
    rows = encode_text(feature, table(["the big été", "", None, "the strange"], tokenizer))
    assert rows.tolist() == [[5, 4, 9], [0, 0, 0], [0, 0, 0], [5, 2, 0]]
    assert encode_text(fit_text(of_tokens(max_length=2), tokenizer), table(["the big été"], tokenizer)).tolist() == [
        [5, 4]
    ]


def test_a_tokenizer_with_ids_beyond_the_table_is_refused(tokenizer):
    with pytest.raises(UserError, match=r"'x' has num_buckets 7, and its tokenizer's largest id is 7.*set .* to 8"):
        fit_text(of_tokens(num_buckets=7), tokenizer)


def test_another_tokenizer_than_the_fitted_one_is_refused(tokenizer):
    feature = fit_text(of_tokens(), tokenizer)
    path = tokenizer / "tokenizer.json"
    path.write_text(path.read_text().replace('"big"', '"small"'))
    with pytest.raises(UserError, match=rf"'x' was fitted with .*{feature.tokenizer_sha256}.*this file has [0-9a-f]+"):
        encode_text(feature, table(["the"], tokenizer))


def test_a_tokenizer_that_cannot_be_read_is_refused(tmp_path):
    pytest.importorskip("tokenizers")
    with pytest.raises(UserError, match=r"'x': cannot read the tokenizer: No such file .*tokenizer\.json"):
        fit_text(of_tokens(), tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="'x': not a tokenizer file"):
        fit_text(of_tokens(), tmp_path)


def test_a_library_that_is_not_installed_is_named_with_its_extra(monkeypatch, tmp_path):
    real = builtins.__import__

    def without(name, *rest):
        if name == "tokenizers":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"'x' needs the library tokenizers.*\[text\]"):
        fit_text(of_tokens(), tmp_path)
