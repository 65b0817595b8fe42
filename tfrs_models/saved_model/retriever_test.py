import pyarrow as pa
import pytest
import tensorflow as tf

from retrieval_contract.errors import UserError
from tfrs_models.saved_model.exact_search import ExactSearch
from tfrs_models.saved_model.filters import CandidateFilters
from tfrs_models.saved_model.retriever import Retriever, argument_name
from tfrs_models.towers.two_tower import TwoTower

IDS = ("a", "", "c")


class Preprocessor:
    """Stands for one of the features' names."""

    def __init__(self, *names):
        self.inputs = dict.fromkeys(names)

    def input_signature(self, *, lists):
        return {name: tf.TensorSpec([None], tf.string, name) for name in self.inputs}

    def __call__(self, raw):
        raise AssertionError("these tests encode nothing")


@pytest.fixture
def make(problem):
    def retriever(*names):
        towers = TwoTower(problem.config, problem.sizes)
        filters = CandidateFilters(pa.table({"größe, cm": ["1", "2", "3"]}))
        search = ExactSearch([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        return Retriever(towers, Preprocessor(*names), Preprocessor(), search, IDS, filters)

    return retriever


def test_a_feature_that_is_called_as_another_input_is_refused(make):
    for name in ("k", "exclusions", argument_name("filter.größe, cm")):
        with pytest.raises(UserError, match=f"an input '{name}', which is taken .*call the column otherwise"):
            make("age", name)
    assert make("kk").filter_inputs == {"filter.größe, cm": "größe, cm"}


def test_arguments_are_called_as_tensorflow_allows():
    assert argument_name("filter.größe, cm") == "filter_gr__e__cm"
    assert argument_name("age_2") == "age_2"


def test_padding_and_unknown_ids_exclude_nothing(make):
    rows = make("age")._rows_of(tf.constant([["c", "", "nobody", "a"]]))
    assert rows.numpy().tolist() == [[2, -1, -1, 0]], "the candidate whose id is empty text cannot be excluded"
