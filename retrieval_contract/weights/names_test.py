"""The parameter table, and what weights start from."""

import numpy as np
import pytest

from retrieval_contract.config import (
    IdFeature,
    Loss,
    Model,
    MultivalentFeature,
    NumericFeature,
    Optimizer,
    RunConfig,
    Tower,
)
from retrieval_contract.data.planted_kinds import kinds_config, kinds_raw
from retrieval_contract.data.prepare import prepare_raw
from retrieval_contract.weights.names import initial_weights, log_popularity_bias, parameter_table

SIZES = {"query": {"query_id": 7}, "candidate": {"candidate_id": 9, "genres": 5}}


def config(**optimizer) -> RunConfig:
    return RunConfig(
        query=Tower(features=(IdFeature(name="query_id", width=4),), hidden_dims=(6,)),
        candidate=Tower(
            features=(
                IdFeature(name="candidate_id", width=3),
                MultivalentFeature(name="genres", width=2),
                NumericFeature(name="price"),
            )
        ),
        model=Model(dim=4, candidate_bias=True),
        optimizer=Optimizer(kind="adamw", weight_decay=0.1, **optimizer),
    )


def starts(table, seed=0):
    return initial_weights(table, seed=seed, embedding_stddev=0.5)


def test_every_parameter_has_its_shape():
    shapes = {name: parameter.shape for name, parameter in parameter_table(config(), SIZES).items()}
    assert shapes == {
        "query.embedding.query_id": (7, 4),
        "query.dense.0.kernel": (4, 6),
        "query.dense.0.bias": (6,),
        "query.dense.1.kernel": (6, 4),
        "query.dense.1.bias": (4,),
        "candidate.embedding.candidate_id": (9, 3),
        "candidate.embedding.genres": (5, 2),
        "candidate.dense.0.kernel": (6, 4),
        "candidate.dense.0.bias": (4,),
        "candidate.bias": (9, 1),
    }


@pytest.mark.parametrize("decays", [False, True])
def test_decay_acts_on_tables_and_kernels_and_on_the_candidate_bias_where_asked(decays):
    table = parameter_table(config(decay_candidate_bias=decays), SIZES)
    spared = {name for name, parameter in table.items() if not parameter.decays}
    assert spared == {name for name in table if ".dense." in name and name.endswith(".bias")} | (
        set() if decays else {"candidate.bias"}
    )


def test_tables_are_sparse_and_layers_are_not():
    table = parameter_table(config(), SIZES)
    assert {name for name, parameter in table.items() if not parameter.sparse} == {n for n in table if ".dense." in n}


def test_starts_have_their_spread_and_padding_is_zero():
    sizes = {"query": {"query_id": 20_000}, "candidate": SIZES["candidate"]}
    weights = starts(parameter_table(config(), sizes))
    rows = weights["query.embedding.query_id"]
    assert not rows[0].any() and rows[1:].all()
    assert rows[1:].std() == pytest.approx(0.5, rel=0.02) and abs(rows[1:].mean()) < 0.01
    limit = np.sqrt(6 / (4 + 6))
    assert 0.5 * limit < np.abs(weights["query.dense.0.kernel"]).max() <= limit
    assert not weights["query.dense.0.bias"].any() and not weights["candidate.bias"].any()
    assert {array.dtype for array in weights.values()} == {np.dtype(np.float32)}


def test_each_parameter_has_a_stream_of_its_own():
    table = parameter_table(config(), SIZES)
    alone = {"candidate.embedding.genres": table["candidate.embedding.genres"]}
    np.testing.assert_array_equal(
        starts(alone)["candidate.embedding.genres"], starts(table)["candidate.embedding.genres"]
    )
    assert not np.array_equal(starts(table, seed=1)["query.dense.0.kernel"], starts(table)["query.dense.0.kernel"])


def test_the_bias_starts_at_log_popularity_less_its_mean():
    counts, rows = np.array([8, 2, 0, 4]), np.array([3, 2, 1, 4], np.int32)
    bias = log_popularity_bias(counts, rows, num_rows=6)
    assert bias.shape == (6, 1) and bias.dtype == np.float32
    np.testing.assert_allclose(bias[:, 0], [0, 0, -np.log(2), np.log(2), 0, 0], atol=1e-7)


def test_unknown_stays_at_the_mean_though_counted_candidates_share_it():
    counts, rows = np.array([8, 50, 2]), np.array([2, 1, 3], np.int32)
    assert log_popularity_bias(counts, rows, num_rows=4)[:2].tolist() == [[0], [0]]
    assert not log_popularity_bias(np.zeros(3, np.int64), rows, num_rows=4).any()


def test_hashed_ids_that_share_a_row_share_their_counts():
    counts, rows = np.array([8, 2, 2]), np.array([3, 2, 2], np.int32)
    bias = log_popularity_bias(counts, rows, num_rows=5)
    np.testing.assert_allclose(bias[:, 0], [0, 0, -np.log(2) / 2, np.log(2) / 2, 0], atol=1e-7)


# ---------------------------------------------------------------- towers of every kind


KINDS = kinds_config(model={"dim": 8, "context_merge": "gate"})
KINDS_SIZES = {
    "query": {
        "query_id": 32,
        "age_bucket": 6,
        "joined": 9,
        "country_age": 22,
        "device": 5,
        "hour": 26,
        "device_hour": 32,
        "country_device": 32,
        "lately": 22,
        "lately.genres": 6,
        "lately.creator": 52,
        "lately.year_bucket": 6,
        "lately.text": 42,
        "lately.creator_year": 27,
    },
    "context": {"device": 11, "day": 9, "device_day": 32},
    "candidate": {
        "candidate_id": 22,
        "creator": 52,
        "genres": 6,
        "year_bucket": 6,
        "text": 42,
        "letters": 42,
        "creator_year": 27,
    },
}


def test_the_sizes_that_a_fit_gives_are_all_that_the_table_asks_for():
    prepared = prepare_raw(kinds_raw(), KINDS)
    assert prepared.features.sizes == KINDS_SIZES
    parameter_table(KINDS, KINDS_SIZES)
    for side, tables in KINDS_SIZES.items():
        for name in tables:
            rest = {**KINDS_SIZES, side: {other: size for other, size in tables.items() if other != name}}
            with pytest.raises(KeyError, match=name):
                parameter_table(KINDS, rest)


def test_tables_projections_and_maps_of_every_kind():
    shapes = {name: parameter.shape for name, parameter in parameter_table(KINDS, KINDS_SIZES).items()}
    tables = {name: shape for name, shape in shapes.items() if ".embedding." in name}
    own = {f"{side}.embedding.{name}": size for side, named in KINDS_SIZES.items() for name, size in named.items()}
    assert {name: shape[0] for name, shape in tables.items()} == {**own, "query.embedding.lately.age": 5}
    assert tables["query.embedding.lately.genres"] == (6, 4), "as wide as the history, not as the candidate's table"
    maps = {name: shape for name, shape in shapes.items() if ".history." in name or ".projection." in name}
    assert maps == {
        "query.history.lately.field.vector": (3, 4),
        "query.history.lately.field.views": (1, 4),
        "query.history.lately.field.uploaded": (1, 4),
        "candidate.projection.vector": (3, 2),
    }
    assert shapes["context.gate.kernel"] == (16, 8) and shapes["context.gate.bias"] == (8,)
    assert shapes["query.dense.0.kernel"] == (KINDS.query.combined_dim, 6)
    assert shapes["context.dense.0.kernel"] == (KINDS.context.combined_dim, 8)


def test_the_gate_is_there_where_contexts_are_merged_by_it():
    names = set(parameter_table(kinds_config(), KINDS_SIZES))
    assert not {name for name in names if name.startswith("context.gate")}


def with_tower(**settings) -> RunConfig:
    base = config()
    query = Tower(features=base.query.features, **settings)
    return base.model_copy(update={"query": query})


def test_cross_layers_are_as_wide_as_the_features():
    shapes = {name: part.shape for name, part in parameter_table(with_tower(cross_layers=2), SIZES).items()}
    assert {name: shape for name, shape in shapes.items() if ".cross." in name} == {
        "query.cross.0.kernel": (4, 4),
        "query.cross.0.bias": (4,),
        "query.cross.1.kernel": (4, 4),
        "query.cross.1.bias": (4,),
    }


@pytest.mark.parametrize(
    ("norm", "parts"),
    [("none", set()), ("layer", {"scale", "offset"}), ("batch", {"scale", "offset", "mean", "variance"})],
)
def test_norms_stand_behind_hidden_layers_only(norm, parts):
    table = parameter_table(with_tower(hidden_dims=(6, 5), norm=norm), SIZES)
    norms = {name: parameter for name, parameter in table.items() if ".norm." in name}
    assert set(norms) == {f"query.dense.{layer}.norm.{part}" for layer in (0, 1) for part in parts}
    start = starts(table)
    for name, parameter in norms.items():
        part = name.rsplit(".", 1)[1]
        assert parameter.shape == ((6,) if ".0." in name else (5,))
        assert parameter.trained == (part in ("scale", "offset"))
        assert not parameter.decays and not parameter.sparse
        assert (start[name] == (1 if part in ("scale", "variance") else 0)).all()


# ---------------------------------------------------------------- numbers that the loss learns


def with_loss(**loss) -> RunConfig:
    return config().model_copy(update={"loss": Loss(**loss)})


def test_the_loss_learns_nothing_unless_asked():
    assert not [name for name in parameter_table(config(), SIZES) if name.startswith("loss.")]


def test_a_learned_temperature_starts_at_the_configured_one_inside_its_bounds():
    table = parameter_table(with_loss(temperature=0.2, learn_temperature=True, temperature_range=(0.1, 2.0)), SIZES)
    parameter = table["loss.log_temperature"]
    assert (parameter.shape, parameter.start, parameter.sparse, parameter.decays) == ((1,), "constant", False, False)
    assert parameter.bounds == (np.float32(np.log(0.1)), np.float32(np.log(2.0)))
    start = starts(table)["loss.log_temperature"]
    assert start.dtype == np.float32 and np.exp(start) == pytest.approx(0.2, rel=1e-6)
    assert list(table)[-1] == "loss.log_temperature", "what the loss learns comes last"


@pytest.mark.parametrize("temperature", [0.07, 3.0])
def test_a_start_on_a_bound_stays_inside_in_float32(temperature):
    loss = {"temperature": temperature, "learn_temperature": True, "temperature_range": (0.07, 3.0)}
    table = parameter_table(with_loss(**loss), SIZES)
    low, high = table["loss.log_temperature"].bounds
    assert low <= starts(table)["loss.log_temperature"][0] <= high


def test_the_sigmoid_loss_has_a_bias_that_is_free():
    table = parameter_table(with_loss(kind="sigmoid", log_q="none", sigmoid_bias=-3.5), SIZES)
    parameter = table["loss.sigmoid_bias"]
    assert (parameter.shape, parameter.bounds, parameter.sparse, parameter.decays) == ((1,), None, False, False)
    assert starts(table)["loss.sigmoid_bias"].tolist() == [-3.5]


def test_what_the_loss_learns_leaves_the_other_starts_as_they_were():
    plain = starts(parameter_table(config(), SIZES))
    learned = starts(parameter_table(with_loss(learn_temperature=True), SIZES))
    for name, array in plain.items():
        np.testing.assert_array_equal(learned[name], array)
