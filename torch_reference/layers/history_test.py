import numpy as np
import pytest
import torch

from retrieval_contract import config
from torch_reference.layers.history import HistoryEncoder, embedding_table

CANDIDATE = config.Tower(
    features=(
        config.IdFeature(name="candidate_id", width=4),
        config.CategoricalFeature(name="category", width=4),
        config.MultivalentFeature(name="genres", width=4, pooling="sqrt_n", weights_column="w"),
        config.TextFeature(name="title", width=4, pooling="max"),
        config.NumericFeature(name="views", missing_flag=True),
        config.NumericFeature(name="length", scaling="buckets", edges=(1.0, 5.0), width=4),
        config.TimeFeature(name="shown", part="hour_cycle"),
        config.CategoricalFeature(name="kind", encoding="one_hot", width=3),
        config.DenseFeature(name="vector", width=2, projection=4),
    )
)
FIELDS = ("category", "genres", "title", "views", "length", "shown", "kind", "vector")
SIZES = {"history": 7, "history.category": 5, "history.genres": 5, "history.title": 6, "history.length": 5}
REAL = np.arange(5) < np.array([5, 3, 0, 1])[:, None]
POOLINGS = {
    "mean": config.MeanPooling(),
    "weighted_mean": config.WeightedMeanPooling(),
    "attention": config.AttentionPooling(),
    "gru": config.GruPooling(),
    "transformer": config.TransformerPooling(dropout=0.3),
    "mind": config.MindPooling(num_interests=3),
    "comirec": config.ComiRecPooling(num_interests=3, attention_dim=2),
}


def encoder(planted_layer, pooling="mean", dtype="float64", **settings):
    history = config.HistoryFeature(name="history", width=4, max_length=5, pooling=POOLINGS[pooling], **settings)
    shared = {f.name: embedding_table(7, 4) for f in CANDIDATE.features} if history.shares else {}
    for table in shared.values():
        torch.nn.init.normal_(table.weight)
    made = HistoryEncoder(history, CANDIDATE, SIZES, dtype, shared=shared)
    return planted_layer(made) if not shared else made.eval(), shared


def arrays(padding=0.0):
    """Arrays of four histories of 5, 3, 0 and 1 items; numbers hold `padding` where there is no item."""
    generator = np.random.default_rng(0)

    def rows(shape, most):
        found = generator.integers(1, most, shape)
        return np.where(REAL.reshape(*REAL.shape, *([1] * (len(shape) - 2))), found, 0)

    def numbers(*shape):
        return np.where(REAL.reshape(*REAL.shape, *([1] * (len(shape) - 2))), generator.uniform(0.1, 1, shape), padding)

    return {
        "history": rows((4, 5), 7),
        "history.category": rows((4, 5), 5),
        "history.genres": rows((4, 5, 2), 5) * (generator.uniform(size=(4, 5, 2)) < 0.7),
        "history.genres.weights": numbers(4, 5, 2),
        "history.title": rows((4, 5, 3), 6) * (np.arange(3) < 2),
        "history.views": numbers(4, 5, 2),
        "history.length": rows((4, 5), 5),
        "history.shown": numbers(4, 5, 2),
        "history.kind": rows((4, 5), 5),
        "history.vector": numbers(4, 5, 2),
        "history.ages": rows((4, 5), 4),
        "history.weights": numbers(4, 5),
    }


def tensors(padding=0.0):
    return {name: torch.tensor(array) for name, array in arrays(padding).items()}


def item_by_hand(made, features, row, place):
    tables = {name: table.weight.detach().double().numpy() for name, table in made.tables.items()}
    kernels = {name: part.detach().numpy() for name, (part, _) in made.parts.items()}

    def at(name):
        return features[f"history.{name}"][row, place]

    item = tables[""][features["history"][row, place]] + tables["category"][at("category")]
    item = item + tables["length"][at("length")] + tables["age"][at("ages")]
    kept = at("genres") != 0
    if kept.any():
        w = at("genres.weights")[kept]
        item = item + (w[:, None] * tables["genres"][at("genres")[kept]]).sum(0) / np.sqrt((w**2).sum())
    item = item + tables["title"][at("title")[at("title") != 0]].max(axis=0)
    one_hot = np.zeros(3)
    if at("kind") >= 2:
        one_hot[at("kind") - 2] = 1
    for name, values in {"kind": one_hot, **{n: at(n) for n in ("views", "shown", "vector")}}.items():
        item = item + values @ kernels[f"field.{name}"]
    return item


@pytest.mark.parametrize("pooling", ["mean", "weighted_mean"])
def test_items_carry_everything_and_means_are_by_hand(planted_layer, pooling):
    made, _ = encoder(planted_layer, pooling, fields=FIELDS, age_buckets=3)
    features = arrays()
    found = made(tensors()).detach().numpy()
    for row in range(4):
        items = [item_by_hand(made, features, row, place) for place in np.flatnonzero(REAL[row])]
        weights = features["history.weights"][row][REAL[row]] if pooling == "weighted_mean" else np.ones(len(items))
        expected = np.average(items, axis=0, weights=weights) if items else np.zeros(4)
        np.testing.assert_allclose(found[row], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_never_leaks_whatever_it_holds(planted_layer, pooling):
    made, _ = encoder(planted_layer, pooling, fields=FIELDS, age_buckets=3)
    expected = made(tensors())
    assert expected.shape == ((4, 3, 4) if pooling in ("mind", "comirec") else (4, 4))
    assert not expected[2].any()
    with torch.no_grad():
        for table in made.tables.values():
            table.weight[0] = 7
    assert torch.equal(made(tensors(padding=3.0)), expected)
    longer = {
        name: torch.nn.functional.pad(x, (0, 0) * (x.ndim - 2) + (0, 2), value=0) for name, x in tensors().items()
    }
    torch.testing.assert_close(made(longer), expected, rtol=1e-12, atol=1e-14)
    expected.square().sum().backward()
    for name, table in made.tables.items():
        gradient = table.weight.grad.to_dense()
        assert gradient.isfinite().all(), name
        assert not gradient[0].any(), name
        assert gradient.any(), name
    for name, (part, _) in made.parts.items():
        assert part.grad is None or part.grad.isfinite().all(), name


@pytest.mark.parametrize("pooling", ["gru", "transformer"])
def test_a_place_is_the_history_that_ends_there(planted_layer, pooling):
    made, _ = encoder(planted_layer, pooling, fields=("category",))
    features = tensors()
    if pooling == "transformer":  # positions count back from the newest item, so a shorter history has others
        with torch.no_grad():
            made._pooling.position[:] = made._pooling.position[0]
    places = made.places(features)
    for length in range(1, 6):
        cut = {name: values[:1, :length] for name, values in features.items()}
        torch.testing.assert_close(made(cut), places[:1, length - 1], rtol=1e-12, atol=1e-14)


def test_shared_tables_are_looked_up_and_are_not_its_own(planted_layer):
    made, shared = encoder(planted_layer, shares=True, fields=("category", "genres", "views"), age_buckets=3)
    assert list(made.tables) == ["age"]
    assert list(made.parts) == ["field.views"]
    made(tensors()).square().sum().backward()
    touched = {name for name, table in shared.items() if table.weight.grad is not None}
    assert touched == {"candidate_id", "category", "genres"}


def test_a_history_without_ids_reads_where_items_are(planted_layer):
    made, _ = encoder(planted_layer, ids=False, fields=("category",))
    features = tensors()
    features["history"] = (features["history"] != 0).long()
    assert list(made.tables) == ["category"]
    table = made.tables["category"].weight.double()
    for row in (0, 1, 3):
        rows = features["history.category"][row][features["history"][row] != 0]
        torch.testing.assert_close(made(features)[row], table[rows].mean(0))


@pytest.mark.parametrize("pooling", ["mean", "transformer", "mind"])
def test_dropout_of_items_is_a_function_of_the_generator(planted_layer, pooling):
    made, _ = encoder(planted_layer, pooling, dropout=0.5)
    made.train()
    first, same, other = (made(tensors(), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert not first[2].any()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_float32_is_close_to_float64(planted_layer, pooling):
    (wide, _), (narrow, _) = (encoder(planted_layer, pooling, dtype, fields=FIELDS) for dtype in ("float64", "float32"))
    with torch.no_grad():
        for made in (wide, narrow):
            for parameter in made.parameters():
                parameter.mul_(0.3)
    features = tensors()
    halved = {name: x.float() if x.is_floating_point() else x for name, x in features.items()}
    assert narrow(halved).dtype == torch.float32
    torch.testing.assert_close(narrow(halved).double(), wide(features), rtol=1e-3, atol=1e-5)
