"""Every tower and feature kind through the whole model: gradients against differences, padding, serving, bytes."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfrs_models.callables import TwoTowerEncoders, loss_and_gradients
from tfrs_models.inputs import batch_tensors, feature_tensors
from tfrs_models.towers.two_tower import TwoTower
from tfrs_models.training.model import RetrievalModel
from tfrs_models.training.trainer import TwoTowerTrainer
from tfrs_models.weights import assign, extract, parameters_by_name

ID = {"name": "id", "kind": "id", "width": 4}
CITY = {"name": "city", "kind": "categorical", "width": 3}
GENRES = {"name": "genres", "kind": "multivalent", "width": 3, "weights_column": "w"}
PRICE = {"name": "price", "kind": "numeric", "missing_flag": True}
STEPS = {"name": "steps", "kind": "numeric", "scaling": "buckets", "edges": [1, 2], "width": 2}
VECTOR = {"name": "vector", "kind": "dense", "width": 3, "projection": 2}
COLOUR = {"name": "colour", "kind": "categorical", "encoding": "one_hot", "width": 3}
TITLE = {"name": "title", "kind": "text", "width": 3, "pooling": "max"}
AGE = {"name": "old", "kind": "time", "part": "age"}
HOUR = {"name": "hour", "kind": "time", "part": "hour", "width": 2, "at": "request"}
CYCLE = {"name": "cycle", "kind": "time", "part": "hour_cycle", "at": "request"}
DEVICE = {"name": "device", "kind": "categorical", "width": 2, "at": "request"}
FIELDS = [ID, GENRES, PRICE, VECTOR, COLOUR, TITLE, AGE, STEPS, CITY]
NAMES = [field["name"] for field in FIELDS[1:]]


def _history(kind, width=4, length=4, **settings):
    pooling = {"kind": kind, **settings.pop("pooling", {})}
    return {"name": "past", "kind": "history", "width": width, "max_length": length, "pooling": pooling, **settings}


def _tower(*features, **settings):
    return {"features": list(features), **settings}


SMALL = _tower(ID)
NARROW = [{**field, "width": 4} if field["kind"] in ("multivalent", "text") else field for field in FIELDS]
NARROW = [{**field, "width": 4} if field["name"] in ("steps", "city") else field for field in NARROW]
POOLINGS = {
    "weighted_mean": {},
    "attention": {},
    "gru": {},
    "transformer": {"num_blocks": 2, "num_heads": 2, "feed_forward_dim": 5},
    "mind": {"num_interests": 3, "power": 0.7},
    "comirec": {"num_interests": 3, "attention_dim": 5},
}
CASES = {
    "kinds": {
        "query": _tower(ID, CITY, STEPS, VECTOR, {**AGE, "name": "since"}, hidden_dims=[5], activation="tanh"),
        "candidate": _tower(*FIELDS, {"name": "both", "kind": "cross", "of": ["id", "city"], "width": 2}),
    },
    "layers": {
        "query": _tower(ID, CITY, cross_layers=2, hidden_dims=[5, 5], norm="layer", residual=True, activation="gelu"),
        "candidate": _tower(ID, cross_layers=1, hidden_dims=[4, 4], norm="batch", residual=True, activation="tanh"),
        "negatives": {"sampled": 3, "impressions": 2},
    },
    "context": {
        "query": _tower(ID),
        "candidate": SMALL,
        "context": _tower(HOUR, DEVICE, CYCLE, hidden_dims=[3], norm="batch", activation="tanh"),
        "model": {"dim": 4, "normalize": True, "context_merge": "gate", "candidate_bias": True},
    },
    "context, interests": {
        "query": _tower(_history("mind", pooling=POOLINGS["mind"]), CITY, hidden_dims=[5], activation="tanh"),
        "candidate": SMALL,
        "context": _tower(DEVICE),
        "model": {"dim": 4, "normalize": True},
    },
    "shared lookups": {
        "query": _tower({"name": "last", "kind": "categorical", "width": 4, "shares": "id"}, CITY),
        "candidate": _tower(ID, GENRES),
        "context": _tower({**DEVICE, "shares": "genres", "width": 3}),
    },
    "interests, batch norm": {
        "query": _tower(_history("comirec", pooling=POOLINGS["comirec"]), hidden_dims=[5], norm="batch"),
        "candidate": SMALL,
        "model": {"dim": 4, "normalize": True},
    },
    "positions, gru": {
        "query": _tower(_history("gru"), hidden_dims=[5], activation="tanh"),
        "candidate": SMALL,
        "training": {"positions": "all"},
    },
    "positions, shared": {
        "query": _tower(_history("transformer", pooling=POOLINGS["transformer"], shares=True)),
        "candidate": _tower(ID),
        "loss": {"kind": "full_softmax", "log_q": "none"},
        "training": {"positions": "all"},
    },
    "full softmax, interests": {
        "query": _tower(_history("comirec", pooling=POOLINGS["comirec"])),
        "candidate": SMALL,
        "loss": {"kind": "full_softmax", "log_q": "none"},
    },
    **{
        f"history, {kind}": {
            "query": _tower(_history(kind, pooling=settings, fields=NAMES, age_buckets=3)),
            "candidate": _tower(*FIELDS),
        }
        for kind, settings in POOLINGS.items()
    },
    **{
        f"shared history, {kind}": {
            "query": _tower(_history(kind, pooling=settings, fields=NAMES, shares=True, ids=kind != "gru")),
            "candidate": _tower(*NARROW),
        }
        for kind, settings in POOLINGS.items()
    },
}


def _find(problem, weights=None, batch=None, dtype="float64"):
    return loss_and_gradients(
        problem.config,
        problem.sizes,
        problem.weights if weights is None else weights,
        problem.batches[0] if batch is None else batch,
        dtype=dtype,
        catalogue=problem.catalogue,
    )


@pytest.mark.parametrize("case", CASES)
def test_the_table_is_the_canonical_one(plant, case):
    problem = plant(**CASES[case])
    variables = parameters_by_name(TwoTower(problem.config, problem.sizes))
    assert {name: (tuple(variable.shape), variable.trainable) for name, variable in variables.items()} == {
        name: (parameter.shape, parameter.trained) for name, parameter in problem.table.items()
    }


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_differences(plant, case):
    """Along one direction through all trained parameters; MIND's shares are constants to a gradient, and left out."""
    problem = plant(**CASES[case])
    weights = {name: array.astype(np.float64) for name, array in problem.weights.items()}
    loss, gradients = _find(problem, weights)
    assert np.isfinite(loss)
    assert gradients.keys() == {name for name, parameter in problem.table.items() if parameter.trained}
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())
    for name, gradient in gradients.items():
        assert gradient.any() or name == "candidate.dense.1.bias", name
    if "mind" in case or case == "context, interests":
        return
    generator = np.random.default_rng(1)
    direction = {name: generator.normal(size=gradient.shape) for name, gradient in gradients.items()}
    for name in direction:
        if "embedding" in name:
            assert not gradients[name][0].any(), name
            direction[name][0] = 0
    step = 1e-6
    ends = [
        _find(problem, {**weights, **{name: weights[name] + h * change for name, change in direction.items()}})[0]
        for h in (step, -step)
    ]
    along = sum((gradients[name] * change).sum() for name, change in direction.items())
    np.testing.assert_allclose(along, (ends[0] - ends[1]) / (2 * step), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("case", CASES)
def test_float32_and_float64_agree(plant, case):
    problem = plant(**CASES[case])
    narrow, wide = _find(problem, dtype="float32"), _find(problem)
    np.testing.assert_allclose(narrow[0], wide[0], rtol=1e-5)
    assert narrow[0] != wide[0]
    for name, gradient in wide[1].items():
        assert narrow[1][name].dtype == np.float32
        np.testing.assert_allclose(narrow[1][name], gradient, rtol=1e-3, atol=1e-5, err_msg=name)


def _spoiled(features, history="past"):
    """Other values at every padded place of a history and its fields, and two more padded places."""
    padded = features[history] == 0
    found = {}
    for name, values in features.items():
        if name.split(".")[0] != history:
            found[name] = values
            continue
        spoiled = values.copy()
        if name != history:
            spoiled[padded] = 3 if values.dtype.kind == "i" else np.nan
        more = np.zeros((len(values), 2, *values.shape[2:]), values.dtype)
        if name != history:
            more += 2
        # The longest history of all has max_length items: only a shorter one can have padding behind it.
        found[name] = np.concatenate([spoiled, more], axis=1)
    return found


@pytest.mark.parametrize("case", [case for case in CASES if "past" in str(CASES[case]) and "positions" not in case])
def test_padding_never_leaks(plant, case):
    problem = plant(**CASES[case])
    batch = problem.batches[0]
    spoiled = dataclasses.replace(batch, query_features=_spoiled(batch.query_features))
    before, after = _find(problem), _find(problem, batch=spoiled)
    np.testing.assert_allclose(after[0], before[0], rtol=1e-12)
    for name, gradient in before[1].items():
        np.testing.assert_allclose(after[1][name], gradient, rtol=1e-9, atol=1e-12, err_msg=name)
    encoders = TwoTowerEncoders(problem.config, problem.sizes, problem.weights)
    # Encoders refuse more places than the tower was made for, padded ones too.
    length = batch.query_features["past"].shape[1]
    within = {
        name: values[:, :length] if name.split(".")[0] == "past" else values
        for name, values in spoiled.query_features.items()
    }
    np.testing.assert_allclose(
        encoders.encode_queries(within),
        encoders.encode_queries(batch.query_features),
        rtol=1e-6,
        atol=1e-9,
    )


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("history")])
def test_an_empty_history_gives_zeros(plant, case):
    problem = plant(**CASES[case])
    towers = TwoTower(problem.config, problem.sizes, "float64")
    assign(towers, problem.weights)
    combined = towers.query.features(feature_tensors(problem.batches[0].query_features)).numpy()
    assert not combined[3].any()
    assert all(row.any() for row in np.delete(combined, 3, axis=0))


@pytest.mark.parametrize("case", CASES)
def test_weights_go_in_and_come_out_to_the_byte(plant, case):
    problem = plant(**CASES[case])
    towers = TwoTower(problem.config, problem.sizes)
    assign(towers, problem.weights)
    arrays = extract(towers)
    assert {name: array.tobytes() for name, array in arrays.items()} == {
        name: array.tobytes() for name, array in problem.weights.items()
    }


@pytest.mark.parametrize("case", CASES)
def test_a_served_vector_has_the_shape_the_config_says(plant, case):
    problem = plant(**CASES[case])
    encoders = TwoTowerEncoders(problem.config, problem.sizes, problem.weights)
    interests = (problem.config.num_interests,) if problem.config.num_interests > 1 else ()
    queries = encoders.encode_queries(problem.batches[0].query_features)
    assert queries.shape == (6, *interests, problem.config.vector_dim)
    assert encoders.encode_candidates(problem.catalogue).shape == (7, problem.config.vector_dim)
    assert np.isfinite(queries).all()


@pytest.mark.parametrize("case", CASES)
def test_tables_keep_sparse_gradients(plant, case):

    problem = plant(**CASES[case])
    model = RetrievalModel(problem.config, problem.sizes, catalogue=problem.catalogue)
    assign(model.towers, problem.weights)
    variables = {
        name: variable for name, variable in parameters_by_name(model.towers).items() if problem.table[name].trained
    }
    gradients = model.loss_and_gradients(variables, batch_tensors(problem.batches[0])).gradients
    for name, gradient in gradients.items():
        assert isinstance(gradient, tf.IndexedSlices) == problem.table[name].sparse, name


DRAWN = {"dropout": 0.3, "feature_dropout": 0.2}


TRAINED = ("layers", "context", "positions, gru", "positions, shared", "history, mind", "history, transformer")


@pytest.mark.parametrize("case", TRAINED)
def test_a_resumed_run_repeats_the_bytes(plant, case):
    tree = {name: dict(branch) for name, branch in CASES[case].items()}
    for side in ("query", "candidate", "context"):
        if side in tree:
            tree[side] |= DRAWN
    for feature in tree["query"]["features"]:
        if feature["kind"] == "history":
            tree["query"]["features"] = [{**feature, "dropout": 0.3}, *tree["query"]["features"][1:]]
    problem = plant(**tree)
    whole = TwoTowerTrainer(problem.config, problem.sizes, problem.first_state, problem.catalogue)
    losses = [whole.step(problem.batches, learning_rate=0.1) for _ in range(2)]
    assert all(np.isfinite(result.loss) for result in losses)
    first = TwoTowerTrainer(problem.config, problem.sizes, problem.first_state, problem.catalogue)
    first.step(problem.batches, learning_rate=0.1)
    second = TwoTowerTrainer(problem.config, problem.sizes, first.state(), problem.catalogue)
    assert second.step(problem.batches, learning_rate=0.1) == losses[1]
    assert losses[0].loss != losses[1].loss
    after, again = whole.state(), second.state()
    assert {name: np.asarray(array).tobytes() for name, array in after.items()} == {
        name: np.asarray(array).tobytes() for name, array in again.items()
    }
    slots = {name.split("/")[-1] for name in after if name.startswith("slots/")}
    assert slots <= {name for name, parameter in problem.table.items() if parameter.trained}
