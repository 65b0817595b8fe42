"""The weights of a history: its items' tables and maps, and each pooling's parts."""

import numpy as np
import pytest

from retrieval_contract.config import (
    AttentionPooling,
    CategoricalFeature,
    ComiRecPooling,
    DenseFeature,
    GruPooling,
    HistoryFeature,
    IdFeature,
    MeanPooling,
    MindPooling,
    MultivalentFeature,
    NumericFeature,
    RunConfig,
    TextFeature,
    TimeFeature,
    Tower,
    TransformerPooling,
    WeightedMeanPooling,
)
from retrieval_contract.weights.history_names import history_parameters, numbers_of
from retrieval_contract.weights.names import initial_weights, parameter_table

CANDIDATE = Tower(
    features=(
        IdFeature(name="candidate_id", width=4),
        CategoricalFeature(name="creator", width=4),
        CategoricalFeature(name="rating", encoding="one_hot", width=5),
        MultivalentFeature(name="genres", width=4),
        NumericFeature(name="price", missing_flag=True),
        DenseFeature(name="vector", width=7, projection=2),
    )
)
SIZES = {"candidate_id": 9, "creator": 6, "genres": 5}
POSITION = "position"


def parts(pooling, **settings):
    """Shapes by name behind `query.history.past.`, of a history of width 4 and length 3."""
    history = HistoryFeature(name="past", width=4, max_length=3, pooling=pooling, **settings)
    named = history_parameters(history, CANDIDATE, {"past.creator": 6, "past.genres": 5})
    return {name.removeprefix("query.history.past."): parameter for name, parameter in named.items()}


def shapes(pooling, **settings):
    return {name: parameter.shape for name, parameter in parts(pooling, **settings).items()}


NORM = {"scale": (4,), "offset": (4,)}
BLOCK = {
    **{f"norm_{number}.{part}": shape for number in (1, 2) for part, shape in NORM.items()},
    **{f"{part}.kernel": (4, 4) for part in ("query", "key", "value", "output")},
    **{f"{part}.bias": (4,) for part in ("query", "key", "value", "output")},
    "feed_forward.0.kernel": (4, 6),
    "feed_forward.0.bias": (6,),
    "feed_forward.1.kernel": (6, 4),
    "feed_forward.1.bias": (4,),
}


@pytest.mark.parametrize(
    ("pooling", "wanted"),
    [
        (MeanPooling(), {}),
        (WeightedMeanPooling(half_life_days=2.0), {}),
        (AttentionPooling(), {"kernel": (4, 4), "bias": (4,), "vector": (4, 1)}),
        (
            GruPooling(),
            {
                **{f"{part}_kernel": (4, 12) for part in ("input", "recurrent")},
                **{f"{part}_bias": (12,) for part in ("input", "recurrent")},
            },
        ),
        (
            TransformerPooling(num_blocks=2, feed_forward_dim=6),
            {
                POSITION: (3, 4),
                **{f"block.{number}.{part}": shape for number in (0, 1) for part, shape in BLOCK.items()},
                **{f"norm.{part}": shape for part, shape in NORM.items()},
            },
        ),
        (MindPooling(num_interests=2), {"kernel": (4, 4), "routing": (3, 2)}),
        (
            ComiRecPooling(num_interests=2, attention_dim=5),
            {POSITION: (3, 4), "kernel_1": (4, 5), "kernel_2": (5, 2)},
        ),
    ],
)
def test_every_pooling_has_its_parts(pooling, wanted):
    assert shapes(pooling) == wanted


def test_feed_forward_is_as_wide_as_the_history_unless_said():
    assert shapes(TransformerPooling(num_blocks=1))["block.0.feed_forward.0.kernel"] == (4, 4)


def test_fields_have_tables_or_maps_and_ages_a_table():
    fields = ("creator", "rating", "genres", "price", "vector")
    own = shapes(MeanPooling(), fields=fields, age_buckets=6)
    assert own == {
        "query.embedding.past.creator": (6, 4),
        "field.rating": (5, 4),
        "query.embedding.past.genres": (5, 4),
        "field.price": (2, 4),
        "field.vector": (7, 4),
        "query.embedding.past.age": (7, 4),
    }
    shared = shapes(MeanPooling(), fields=fields, age_buckets=6, shares=True)
    assert shared == {name: shape for name, shape in own.items() if not name.endswith(("past.creator", "past.genres"))}


@pytest.mark.parametrize(
    ("field", "numbers"),
    [
        (CategoricalFeature(name="f", width=5), 0),
        (CategoricalFeature(name="f", width=5, encoding="one_hot"), 5),
        (TextFeature(name="f", width=5), 0),
        (NumericFeature(name="f"), 1),
        (NumericFeature(name="f", scaling="raw", missing_flag=True), 2),
        (NumericFeature(name="f", scaling="quantiles"), 0),
        (TimeFeature(name="f", part="hour_cycle"), 2),
        (TimeFeature(name="f", part="hour"), 0),
        (TimeFeature(name="f", part="age"), 1),
        (DenseFeature(name="f", width=5, projection=2), 5),
    ],
)
def test_what_of_a_field_is_numbers(field, numbers):
    assert numbers_of(field) == numbers


def test_the_fixed_draw_is_neither_trained_nor_decayed_and_spreads_by_one():
    routing = parts(MindPooling())["routing"]
    assert (routing.start, routing.trained, routing.decays, routing.sparse) == ("standard_normal", False, False, False)
    history = HistoryFeature(name="past", max_length=50, pooling=MindPooling(num_interests=100))
    table = history_parameters(history, CANDIDATE, {})
    drawn = initial_weights(table, seed=0, embedding_stddev=0.01)["query.history.past.routing"]
    assert drawn.std() == pytest.approx(1, abs=0.05)
    assert drawn.dtype == np.float32


def test_positions_start_like_embeddings_without_padding():
    table = parts(ComiRecPooling())
    assert (table[POSITION].start, table[POSITION].decays, table[POSITION].sparse) == ("normal", True, False)
    drawn = initial_weights({POSITION: table[POSITION]}, seed=0, embedding_stddev=0.5)[POSITION]
    assert drawn.all(), "row 0 is a place like any other"


def test_ids_that_are_shared_stand_with_the_candidate_alone():
    for shares in (False, True):
        history = HistoryFeature(name="past", width=4, shares=shares)
        config = RunConfig(query=Tower(features=(history,)), candidate=CANDIDATE)
        sizes = {"query": {} if shares else {"past": 9}, "candidate": SIZES}
        assert ("query.embedding.past" in parameter_table(config, sizes)) != shares
