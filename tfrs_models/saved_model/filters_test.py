import numpy as np
import pyarrow as pa
import tensorflow as tf

from retrieval_contract.indexes.attributes import Attributes
from tfrs_models.saved_model.filters import CandidateFilters

TABLE = pa.table(
    {
        "genre": [["Crime", "Drama"], None, [], ["Drama", None, "日本"], ["Crime", "Crime"], [""]],
        "language": ["de", "en", None, "en", "", "de"],
        "nothing": pa.array([None] * 6, pa.string()),
    }
)
WANTED = [
    {},
    {"genre": ["Drama"]},
    {"genre": ["日本", "Crime"], "language": ["de", "fr"]},
    {"language": ["fr"]},
    {"nothing": ["x"], "genre": ["Drama"]},
]


def padded(name):
    lists = [wanted.get(name, []) for wanted in WANTED]
    return tf.constant([values + [""] * (3 - len(values)) for values in lists], tf.string)


def test_a_filter_allows_what_the_contract_allows():
    filters = CandidateFilters(TABLE)
    assert filters.names == ("genre", "language", "nothing")
    allowed = filters({name: padded(name) for name in filters.names}).numpy()
    expected = np.stack([Attributes(TABLE).allowed(wanted) for wanted in WANTED])
    np.testing.assert_array_equal(allowed, expected)
    assert expected.sum(axis=1).tolist() == [6, 2, 1, 0, 0], "no filter allows all, the others some or none"


def test_the_comparison_notices_any_name_in_place_of_every_name():
    either = CandidateFilters(TABLE)({"genre": padded("genre")}).numpy()
    assert (either != np.stack([Attributes(TABLE).allowed(wanted) for wanted in WANTED])).any()


def test_a_batch_may_be_empty():
    filters = CandidateFilters(TABLE.select(["genre"]))
    assert filters({"genre": tf.zeros([0, 2], tf.string)}).shape == (0, 6)
    assert filters({"genre": tf.zeros([2, 0], tf.string)}).numpy().all()
