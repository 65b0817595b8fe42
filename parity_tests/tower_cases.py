"""Configurations of the small problems over kinds of features and towers: one per option, mixtures, and drawn ones."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from parity_tests.cases import (
    AGE,
    ALL_COLUMNS,
    ALL_MASKS,
    BANK,
    CANDIDATE_ID,
    GENRES,
    HISTORY,
    OCCUPATION,
    PRICE,
    QUERY_ID,
    YEAR,
    config_of,
)
from retrieval_contract.errors import UserError

Tree = dict[str, Any]

HASHED: Tree = {"name": "hashed", "kind": "categorical", "width": 3, "num_buckets": 4}
ONE_HOT: Tree = {"name": "one_hot", "kind": "categorical", "width": 4, "encoding": "one_hot"}
FLAGGED: Tree = {"name": "flagged", "kind": "numeric", "missing_flag": True}
BUCKETS: Tree = {"name": "buckets", "kind": "numeric", "scaling": "buckets", "edges": [1.0, 2.0], "width": 2}
QUANTILES: Tree = {"name": "quantiles", "kind": "numeric", "scaling": "quantiles", "num_quantiles": 3, "width": 2}
HOUR: Tree = {"name": "hour", "kind": "time", "part": "hour", "width": 2}
WEEKDAY: Tree = {"name": "weekday", "kind": "time", "part": "weekday", "width": 2}
CYCLE: Tree = {"name": "cycle", "kind": "time", "part": "hour_cycle"}
UPLOADED: Tree = {"name": "uploaded", "kind": "time", "part": "age"}
TEXT: Tree = {"name": "text", "kind": "text", "num_buckets": 5, "width": 3}
DENSE: Tree = {"name": "dense", "kind": "dense", "width": 3}
PROJECTED: Tree = {"name": "projected", "kind": "dense", "width": 5, "projection": 2}
CROSS: Tree = {"name": "cross", "kind": "cross", "of": ["year", "hashed"], "num_buckets": 4, "width": 2}
AFFINITY: Tree = {"name": "affinity", "kind": "affinity", "of": "genres", "width": 5}
POOLINGS = ("mean", "sum", "sqrt_n", "max")


def _list(pooling: str, *, weighs: bool = False, width: int = 3) -> Tree:
    name = f"{pooling}_weighted" if weighs else pooling
    weights = {"weights_column": "w"} if weighs else {}
    return {"name": name, "kind": "multivalent", "width": width, "max_length": 3, "pooling": pooling, **weights}


def _side(*features: Tree, **settings: Any) -> Tree:
    return {"features": list(features), **settings}


def _history(pooling: str | None = None, **settings: Any) -> Tree:
    """A history; settings of its pooling have names of theirs."""
    own = {"fields", "shares", "ids", "age_buckets", "width", "max_length", "name"}
    rest = {name: value for name, value in settings.items() if name not in own}
    pooled = {} if pooling is None else {"pooling": {"kind": pooling, **rest}}
    return HISTORY | {name: value for name, value in settings.items() if name in own} | pooled


FIELDS: list[Tree] = [YEAR, HASHED, ONE_HOT, FLAGGED, PRICE, BUCKETS, HOUR, CYCLE, UPLOADED, TEXT, DENSE, PROJECTED]
FIELDS += [CROSS, _list("sqrt_n"), _list("max"), _list("sum", weighs=True), _list("mean", weighs=True)]
FIELD_NAMES = [field["name"] for field in FIELDS]
SHARED_FIELDS: list[Tree] = [HASHED | {"width": 4}, GENRES, _list("sum", weighs=True, width=4), PRICE, ONE_HOT]

FEATURES: dict[str, Tree] = {
    "one_hot": {"query": _side(QUERY_ID, ONE_HOT), "candidate": _side(ONE_HOT, CANDIDATE_ID)},
    "one_hot_alone": {"candidate": _side(ONE_HOT)},
    "hashed": {"query": _side(HASHED, QUERY_ID), "candidate": _side(CANDIDATE_ID, HASHED)},
    "lists": {
        "query": _side(*map(_list, POOLINGS)),
        "candidate": _side(*(_list(pooling, weighs=True) for pooling in POOLINGS)),
    },
    "numbers": {
        "query": _side(QUERY_ID, AGE, FLAGGED, BUCKETS, QUANTILES),
        "candidate": _side(CANDIDATE_ID, FLAGGED, BUCKETS, QUANTILES),
    },
    "times": {
        "query": _side(QUERY_ID, HOUR, WEEKDAY, CYCLE, UPLOADED),
        "candidate": _side(HOUR, UPLOADED, CYCLE, CANDIDATE_ID),
    },
    "texts": {
        "query": _side(TEXT, *(TEXT | {"name": f"text_{pooling}", "pooling": pooling} for pooling in POOLINGS[1:])),
        "candidate": _side(CANDIDATE_ID, TEXT),
    },
    "dense": {"query": _side(QUERY_ID, DENSE, PROJECTED), "candidate": _side(PROJECTED, DENSE, CANDIDATE_ID)},
    "dense_sum": {"candidate": _side(CANDIDATE_ID, PROJECTED | {"projection": 4}, combine="sum")},
    "cross": {"query": _side(YEAR, HASHED, CROSS), "candidate": _side(HASHED, YEAR, CROSS, CANDIDATE_ID)},
    "affinity": {"query": _side(QUERY_ID, AFFINITY), "candidate": _side(CANDIDATE_ID, GENRES)},
    "request": {"query": _side(QUERY_ID, HOUR | {"at": "request"}, YEAR | {"at": "request"})},
    "shared_lookups": {
        "query": _side(
            {"name": "liked_year", "kind": "categorical", "width": 2, "shares": "year"},
            {"name": "liked_genres", "kind": "multivalent", "width": 4, "shares": "genres", "pooling": "sqrt_n"},
            QUERY_ID,
        ),
        "candidate": _side(CANDIDATE_ID, GENRES, YEAR),
    },
}
"""Every kind of feature."""

HISTORIES: dict[str, Tree] = {
    "history_fields": {
        "query": _side(_history(fields=FIELD_NAMES, age_buckets=3)),
        "candidate": _side(CANDIDATE_ID, *FIELDS),
    },
    "history_ages": {"query": _side(_history(age_buckets=4))},
    "history_without_ids": {
        "query": _side(_history(fields=["genres"], ids=False, width=3), QUERY_ID),
        "candidate": _side(GENRES, CANDIDATE_ID),
    },
    "history_shares": {
        "query": _side(_history(shares=True, fields=[field["name"] for field in SHARED_FIELDS])),
        "candidate": _side(CANDIDATE_ID, *SHARED_FIELDS),
    },
    "two_histories": {
        "query": _side(_history(), _history("attention", name="other", shares=True, age_buckets=2), combine="sum"),
        "candidate": _side(CANDIDATE_ID, GENRES),
    },
    "weighted_mean": {"query": _side(_history("weighted_mean"))},
    "attention": {"query": _side(_history("attention"))},
    "gru": {"query": _side(_history("gru"))},
    "transformer": {"query": _side(_history("transformer"))},
    "transformer_other": {
        "query": _side(
            _history("transformer", num_blocks=1, num_heads=1, feed_forward_dim=3, activation="silu", max_length=6)
        )
    },
    "mind": {"query": _side(_history("mind", num_interests=3))},
    "mind_power": {"query": _side(_history("mind", num_interests=3, power=2.5, num_iterations=2))},
    "mind_root": {"query": _side(_history("mind", num_interests=2, power=0.5, num_iterations=1))},
    "comirec": {"query": _side(_history("comirec", num_interests=3, attention_dim=5))},
    "mind_tower": {
        "query": _side(
            AGE, _history("mind", num_interests=3, shares=True), QUERY_ID, hidden_dims=[5], activation="tanh"
        ),
        "candidate": _side(CANDIDATE_ID, GENRES, hidden_dims=[4]),
        "model": {"dim": 3, "normalize": True, "candidate_bias": True},
        "loss": {"temperature": 0.3, "learn_temperature": True},
        "negatives": ALL_COLUMNS,
    },
    "comirec_tower": {
        "query": _side(QUERY_ID, _history("comirec", num_interests=2), cross_layers=1, norm="batch", hidden_dims=[5]),
        "candidate": _side(CANDIDATE_ID, GENRES, norm="batch", hidden_dims=[5]),
        "model": {"dim": 3, "candidate_bias": True},
        "negatives": ALL_COLUMNS,
    },
    "mind_full_softmax": {
        "query": _side(_history("mind", num_interests=2, shares=True)),
        "loss": {"kind": "full_softmax", "log_q": "none"},
    },
    "comirec_bank": {"query": _side(_history("comirec", num_interests=2)), "negatives": BANK},
}
"""Every item and every pooling."""

DEEP: Tree = {"hidden_dims": [5, 5, 4], "activation": "tanh"}
TWO: list[Tree] = [QUERY_ID, OCCUPATION]
CONTEXT: Tree = _side(HOUR | {"at": "request"}, AGE | {"at": "request"}, YEAR | {"at": "request"})
TOWERS: dict[str, Tree] = {
    "cross_layers": {
        "query": _side(*TWO, cross_layers=2),
        "candidate": _side(CANDIDATE_ID, PRICE, cross_layers=3, hidden_dims=[4]),
    },
    "residual": {
        "query": _side(*TWO, residual=True, **DEEP),
        "candidate": _side(CANDIDATE_ID, hidden_dims=[4], residual=True),
    },
    "layer_norm": {
        "query": _side(*TWO, norm="layer", **DEEP),
        "candidate": _side(CANDIDATE_ID, norm="layer", hidden_dims=[4], residual=True, activation="silu"),
    },
    "batch_norm": {
        "query": _side(*TWO, norm="batch", **DEEP),
        "candidate": _side(CANDIDATE_ID, norm="batch", hidden_dims=[4], residual=True, activation="gelu"),
    },
    "batch_norm_columns": {
        "candidate": _side(CANDIDATE_ID, GENRES, norm="batch", hidden_dims=[5]),
        "negatives": {**ALL_COLUMNS, **ALL_MASKS},
    },
    "batch_norm_full_softmax": {
        "candidate": _side(CANDIDATE_ID, norm="batch", hidden_dims=[5]),
        "loss": {"kind": "full_softmax", "log_q": "none"},
    },
    "batch_norm_bank": {"candidate": _side(CANDIDATE_ID, norm="batch", hidden_dims=[5]), "negatives": BANK},
    "context_sum": {"context": CONTEXT},
    "context_gate": {"context": CONTEXT | {"hidden_dims": [3]}, "model": {"dim": 4, "context_merge": "gate"}},
    "context_sum_normalize": {"context": CONTEXT, "model": {"dim": 4, "normalize": True}},
    "context_cross": {
        "context": _side(
            YEAR | {"at": "request"}, HASHED | {"at": "request"}, CROSS, norm="batch", hidden_dims=[4], cross_layers=1
        ),
        "model": {"dim": 4, "context_merge": "gate", "normalize": True, "candidate_bias": True},
        "loss": {"temperature": 0.3},
    },
    "context_mind": {
        "query": _side(_history("mind", num_interests=3)),
        "context": CONTEXT,
        "model": {"dim": 4, "context_merge": "gate", "normalize": True},
        "loss": {"temperature": 0.3},
    },
    "context_comirec": {"query": _side(_history("comirec", num_interests=3)), "context": CONTEXT},
    "everything_new": {
        "query": _side(
            _history("transformer", shares=True, fields=["genres"], age_buckets=3),
            AFFINITY,
            BUCKETS,
            cross_layers=1,
            norm="layer",
            **DEEP,
        ),
        "context": CONTEXT | {"norm": "batch", "hidden_dims": [4]},
        "candidate": _side(CANDIDATE_ID, GENRES, PROJECTED, TEXT, norm="batch", residual=True, **DEEP),
        "model": {"dim": 4, "context_merge": "gate", "normalize": True, "candidate_bias": True},
        "loss": {"temperature": 0.3, "learn_temperature": True},
        "negatives": {**ALL_COLUMNS, **ALL_MASKS},
    },
}
"""Every layer, and the three towers."""

ALL_PLACES: Tree = {"training": {"positions": "all"}}
PLACES: dict[str, Tree] = {
    "places_gru": {"query": _side(_history("gru")), **ALL_PLACES},
    "places_transformer": {"query": _side(_history("transformer", max_length=5)), **ALL_PLACES},
    "places_tower": {
        "query": _side(
            _history("transformer", shares=True, fields=["genres"], age_buckets=3),
            norm="layer",
            residual=True,
            cross_layers=1,
            hidden_dims=[4],
        ),
        "candidate": _side(CANDIDATE_ID, GENRES),
        "model": {"dim": 3, "normalize": True, "candidate_bias": True},
        "loss": {"temperature": 0.3},
        "negatives": {**ALL_COLUMNS, "mask_known_positives": True},
        **ALL_PLACES,
    },
    "places_full_softmax": {
        "query": _side(_history("transformer", shares=True)),
        "loss": {"kind": "full_softmax", "log_q": "none"},
        **ALL_PLACES,
    },
    "places_gbce": {
        "query": _side(_history("gru", shares=True)),
        "loss": {"kind": "gbce", "log_q": "none"},
        "negatives": {"sampled": 5},
        **ALL_PLACES,
    },
}
"""Every place of a sequence predicts."""

NUM_DRAWN = 32


def _drawn(seed: int) -> Tree:
    """A configuration drawn at random over features, poolings, layers and towers: drawn until one is taken."""
    generator = np.random.default_rng([seed, 6])
    while True:
        tree = _drawn_tree(generator, sequential=seed % 4 == 3)
        try:
            config_of(tree, where="drawn")
        except UserError:
            continue
        return tree


def _drawn_tree(generator: np.random.Generator, *, sequential: bool) -> Tree:
    candidates = _some(generator, [*FIELDS[:-4], GENRES, _list("sqrt_n"), _list("max", weighs=True)], 3)
    names = [feature["name"] for feature in candidates if feature["name"] != "cross"]
    queries = _some(generator, [QUERY_ID, OCCUPATION, FLAGGED, QUANTILES, WEEKDAY, TEXT, DENSE, ONE_HOT], 3)
    history = _drawn_history(generator, ("gru", "transformer") if sequential else _ANY_POOLING, names)
    context = None if sequential or generator.random() < 0.6 else CONTEXT | _drawn_layers(generator)
    negatives = {"sampled": _one_of(generator, 0, 5), "impressions": _one_of(generator, 0, 2)}
    return {
        "query": _side(*([history] if sequential else [history, *queries]), **_drawn_layers(generator)),
        "candidate": _side(CANDIDATE_ID, *candidates, **_drawn_layers(generator)),
        **({} if context is None else {"context": context}),
        "model": {
            "dim": _one_of(generator, 3, 4),
            "normalize": _one_of(generator, True, False),
            "candidate_bias": _one_of(generator, True, False),
            "context_merge": _one_of(generator, "sum", "gate"),
        },
        "loss": {"temperature": _one_of(generator, 1.0, 0.3), "log_q": _one_of(generator, "none", "exact")},
        "negatives": {**negatives, "mask_known_positives": _one_of(generator, True, False)},
        "training": {"positions": "all" if sequential else "last"},
    }


_ANY_POOLING = ("mean", "weighted_mean", "attention", "gru", "transformer", "mind", "comirec")


def _drawn_history(generator: np.random.Generator, poolings: Sequence[str], names: list[str]) -> Tree:
    pooling = _one_of(generator, *poolings)
    settings = {"num_interests": _one_of(generator, 2, 3)} if pooling in ("mind", "comirec") else {}
    if pooling == "mind":
        settings |= {"power": _one_of(generator, 0.5, 1.0, 2.0), "num_iterations": _one_of(generator, 1, 2, 3)}
    if pooling == "transformer":
        settings |= {"num_blocks": _one_of(generator, 1, 2), "num_heads": _one_of(generator, 1, 2, 4)}
        settings |= {"activation": _one_of(generator, "relu", "gelu", "silu", "tanh")}
    return _history(
        pooling,
        shares=_one_of(generator, True, False),
        fields=[name for name in names if generator.random() < 0.4],
        age_buckets=_one_of(generator, 0, 3),
        **settings,
    )


def _drawn_layers(generator: np.random.Generator) -> Tree:
    return {
        "cross_layers": _one_of(generator, 0, 0, 1, 2),
        "hidden_dims": _one_of(generator, [], [5], [4, 4]),
        "activation": _one_of(generator, "relu", "gelu", "silu", "tanh"),
        "norm": _one_of(generator, "none", "batch", "layer"),
        "residual": _one_of(generator, True, False),
    }


def _some(generator: np.random.Generator, choices: list[Tree], num: int) -> list[Tree]:
    return [choices[place] for place in generator.choice(len(choices), num, replace=False)]


def _one_of(generator: np.random.Generator, *choices: Any) -> Any:
    return choices[generator.integers(len(choices))]


SINGLE: dict[str, Tree] = FEATURES | HISTORIES | TOWERS | PLACES
DRAWN: dict[str, Tree] = {f"drawn_towers_{seed}": _drawn(seed) for seed in range(NUM_DRAWN)}
"""More cases over everything, by number."""
EVERY_CASE: dict[str, Tree] = SINGLE | DRAWN
