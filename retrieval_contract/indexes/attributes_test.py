import numpy as np
import pyarrow as pa
import pytest

from retrieval_contract.errors import UserError
from retrieval_contract.indexes.attributes import Attributes

TABLE = pa.table(
    {
        "country": ["fr", None, "de", "fr", "日本"],
        "genres": [["x", "y"], [], None, ["y", "y"], ["z"]],
        "year": [1999, 2000, None, 1999, 2001],
        "free": [True, False, True, None, True],
        "coded": pa.array(["a", "b", "a", "b", None]).dictionary_encode(),
        "vector": [[[1.0]], [[2.0]], None, None, None],
    }
)
NAMES = ("country", "genres", "year", "free", "coded")


@pytest.fixture(scope="module")
def attributes():
    return Attributes.from_table(TABLE, NAMES)


@pytest.mark.parametrize(
    ("wanted", "rows"),
    [
        ({"country": ["fr"]}, [0, 3]),
        ({"country": ["fr", "日本"]}, [0, 3, 4]),
        ({"genres": ["y"]}, [0, 3]),
        ({"year": ["1999"]}, [0, 3]),
        ({"free": ["true"]}, [0, 2, 4]),
        ({"coded": ["a"]}, [0, 2]),
        ({"country": ["fr"], "genres": ["x"]}, [0]),
        ({"country": ["fr"], "genres": ["z"]}, []),
        ({"country": ["nowhere"]}, []),
        ({"country": []}, []),
        ({}, [0, 1, 2, 3, 4]),
    ],
)
def test_every_name_needs_one_of_its_values(attributes, wanted, rows):
    assert np.flatnonzero(attributes.allowed(wanted)).tolist() == rows


def test_order_and_repeats_of_values_are_one_filter(attributes):
    one = attributes.allowed({"country": ["fr", "de"], "year": ["1999"]})
    assert attributes.allowed({"year": ["1999", "1999"], "country": ["de", "fr"]}) is one
    assert not one.flags.writeable


def test_unknown_names_and_values_that_are_no_texts_are_refused(attributes):
    with pytest.raises(UserError, match=r"no attribute 'contry' to filter by .filters.: did you mean 'country'"):
        attributes.allowed({"contry": ["fr"]})
    for values in ("fr", [1], [None]):
        with pytest.raises(UserError, match=r"filter 'country' is .*give a list of texts"):
            attributes.allowed({"country": values})


def test_columns_that_cannot_be_filtered_by_are_refused():
    with pytest.raises(UserError, match=r"no column 'colour', which index.attributes needs"):
        Attributes.from_table(TABLE, ["colour"])
    with pytest.raises(UserError, match="column 'vector' is list"):
        Attributes.from_table(TABLE, ["vector"])


def test_more_candidates_stand_behind(attributes):
    both = attributes.extended(Attributes.from_table(TABLE.slice(3), NAMES))
    assert both.size == 7
    assert np.flatnonzero(both.allowed({"country": ["fr"]})).tolist() == [0, 3, 5]


def test_nothing_known_of_candidates():
    none = Attributes.none(3)
    assert (none.names, none.size, none.num_bytes) == ((), 3, 0)
    assert none.allowed({}).tolist() == [True] * 3
    with pytest.raises(UserError, match="no attribute 'country'"):
        none.allowed({"country": ["fr"]})
