"""Every kind of feature: what it refuses by itself, by its name and both values, and how wide it is."""

import math

import pytest

from retrieval_contract.config import (
    CategoricalFeature,
    CrossFeature,
    DenseFeature,
    GruPooling,
    HistoryFeature,
    IdFeature,
    MindPooling,
    MultivalentFeature,
    NumericFeature,
    TextFeature,
    TimeFeature,
    Tower,
    TransformerPooling,
    is_at_request,
    looks_up_one_row,
    table_width,
)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: IdFeature(name="f", num_buckets=5, top=3),
            "'f': num_buckets fits nothing; unset min_count, top and sh",
        ),
        (lambda: IdFeature(name="f", num_buckets=5, min_count=2), "'f': num_buckets fits nothing"),
        (lambda: CategoricalFeature(name="f", num_buckets=5, shares="g"), "'f': num_buckets fits nothing"),
        (lambda: CategoricalFeature(name="f", shares="g", top=9), "'f': it shares 'g', whose min_count and top count"),
        (lambda: MultivalentFeature(name="f", shares="g", min_count=2), "'f': it shares 'g'"),
        (lambda: CategoricalFeature(name="f", encoding="one_hot", shares="g"), "'f': one_hot shares no table; got g"),
        (
            lambda: CategoricalFeature(name="f", encoding="one_hot", width=4, num_buckets=5),
            "'f': one_hot has 4 places; got 5",
        ),
        (
            lambda: NumericFeature(name="f", scaling="buckets"),
            r"'f': edges and scaling=buckets need each other; got \(\)",
        ),
        (lambda: NumericFeature(name="f", edges=(1.0, 2.0)), r"need each other; got \(1.0, 2.0\)"),
        (lambda: NumericFeature(name="f", scaling="buckets", edges=(2.0, 2.0)), r"edges must rise; got \(2.0, 2.0\)"),
        (lambda: NumericFeature(name="f", scaling="buckets", edges=(1.0, math.inf)), "finite number"),
        (lambda: NumericFeature(name="f", scaling="buckets", edges=(math.nan,)), "finite number"),
        (
            lambda: NumericFeature(name="f", scaling="quantiles", missing_flag=True),
            "'f': quantiles has a row for missing values; unset missing_flag",
        ),
        (lambda: NumericFeature(name="f", scaling="quantiles", num_quantiles=1), "greater than or equal to 2"),
        (lambda: TimeFeature(name="f", part="age", at="request"), "'f': a request has age 0; use another part"),
        (
            lambda: TimeFeature(name="f", part="hour", at="request", column="x"),
            "'f': a request is the interaction's time",
        ),
        (
            lambda: TextFeature(name="f", tokens="tokenizer"),
            "'f': tokens=tokenizer and a tokenizer file need each other",
        ),
        (lambda: TextFeature(name="f", tokenizer="t.json"), "need each other"),
        (lambda: TextFeature(name="f", ngrams=()), "'f': ngrams needs one length or more"),
        (lambda: TextFeature(name="f", ngrams=(1, 0)), "greater than or equal to 1"),
        (lambda: DenseFeature(name="f"), "width"),
        (lambda: DenseFeature(name="f", width=0), "greater than or equal to 1"),
        (lambda: CrossFeature(name="f", of=("a",)), r"'f': a cross names two features or more.*got \('a',\)"),
        (lambda: CrossFeature(name="f", of=("a", "b", "a")), r"got \('a', 'b', 'a'\)"),
        (lambda: CrossFeature(name="f", of=("a", "b"), column="x"), "and no column"),
        (lambda: HistoryFeature(name="f", ids=False), "'f': a history needs ids or fields"),
        (lambda: HistoryFeature(name="f", fields=("a", "b", "a")), r"'f': a field stands once; got \('a', 'b', 'a'\)"),
        (
            lambda: HistoryFeature(name="f", fields=("a", "weights")),
            r"'f': the names \['weights'\] are the history's own",
        ),
        (lambda: HistoryFeature(name="f", fields=("age",), age_buckets=3), r"'f': the names \['age'\] are"),
        (
            lambda: HistoryFeature(name="f", shares=True, min_count=3),
            "'f': it shares the candidate's ids, whose min_count",
        ),
        (
            lambda: HistoryFeature(name="f", width=5, pooling=TransformerPooling(num_heads=2)),
            "'f': width 5 is no multiple of num_heads 2",
        ),
        (lambda: Tower(features=(IdFeature(name="a.b"),)), r"no dot and is not empty; got \['a.b'\]"),
        (lambda: Tower(features=(IdFeature(name=""),)), r"not empty; got \[''\]"),
        (
            lambda: Tower(features=(IdFeature(name="a"), CrossFeature(name="f", of=("a", "b")))),
            r"'f' crosses \['b'\], which are no features of this tower that look up one row; there are \['a'\]",
        ),
        (
            lambda: Tower(
                features=(IdFeature(name="a"), MultivalentFeature(name="b"), CrossFeature(name="f", of=("a", "b")))
            ),
            r"'f' crosses \['b'\]",
        ),
        (
            lambda: Tower(features=(IdFeature(name="a", width=1), NumericFeature(name="b")), combine="sum"),
            "combine=sum cannot add a numeric feature",
        ),
    ],
)
def test_a_feature_that_does_not_hold_together_is_refused_by_name(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_field_may_be_called_age_where_no_age_is_looked_up():
    assert HistoryFeature(name="f", fields=("age",)).fields == ("age",)


HISTORY = HistoryFeature(name="f", width=6, pooling=MindPooling(num_interests=3))


@pytest.mark.parametrize(
    ("feature", "output", "table", "one_row"),
    [
        (IdFeature(name="f", width=5), 5, 5, True),
        (CategoricalFeature(name="f", width=5), 5, 5, True),
        (CategoricalFeature(name="f", width=5, num_buckets=99), 5, 5, True),
        (CategoricalFeature(name="f", width=5, shares="g"), 5, 0, True),
        (CategoricalFeature(name="f", width=5, encoding="one_hot"), 5, 0, True),
        (MultivalentFeature(name="f", width=5), 5, 5, False),
        (MultivalentFeature(name="f", width=5, shares="g"), 5, 0, False),
        (NumericFeature(name="f"), 1, 0, False),
        (NumericFeature(name="f", scaling="raw", missing_flag=True), 2, 0, False),
        (NumericFeature(name="f", scaling="quantiles", width=3), 3, 3, True),
        (NumericFeature(name="f", scaling="buckets", edges=(1.0,), width=3), 3, 3, True),
        (TimeFeature(name="f", part="hour", width=3), 3, 3, True),
        (TimeFeature(name="f", part="weekday", width=3), 3, 3, True),
        (TimeFeature(name="f", part="year_cycle", width=3), 2, 0, False),
        (TimeFeature(name="f", part="age", width=3), 1, 0, False),
        (TextFeature(name="f", width=7), 7, 7, False),
        (DenseFeature(name="f", width=7), 7, 0, False),
        (DenseFeature(name="f", width=7, projection=2), 2, 0, False),
        (CrossFeature(name="f", of=("a", "b"), width=4), 4, 4, True),
        (HISTORY, 6, 6, False),
        (HistoryFeature(name="f", width=6, shares=True), 6, 0, False),
        (HistoryFeature(name="f", width=6, ids=False, fields=("g",)), 6, 0, False),
    ],
)
def test_widths(feature, output, table, one_row):
    assert (feature.output_width, table_width(feature), looks_up_one_row(feature)) == (output, table, one_row)


def test_what_belongs_to_a_request():
    assert is_at_request(NumericFeature(name="f", at="request"))
    assert not is_at_request(NumericFeature(name="f"))
    assert not is_at_request(IdFeature(name="f"))


def test_interests_are_those_of_the_pooling():
    assert HISTORY.num_interests == 3
    assert HistoryFeature(name="f", pooling=GruPooling()).num_interests == 1
    assert Tower(features=(IdFeature(name="a"), HISTORY)).num_interests == 3
    assert Tower(features=(IdFeature(name="a"),)).num_interests == 1
