"""Configurations of the small problems, by name: one per option, some with all of them, and some drawn at random."""

from typing import Any

import numpy as np

from retrieval_contract.config import RunConfig
from retrieval_contract.config_text import config_from_tree
from retrieval_contract.errors import UserError

NUM_ROWS = 6
"""Rows of a batch."""
NUM_SAMPLED = 5
NUM_SHOWN = 2
"""Impressions of a row."""

QUERY_ID = {"name": "query_id", "kind": "id", "width": 4}
CANDIDATE_ID = {"name": "candidate_id", "kind": "id", "width": 4}
OCCUPATION = {"name": "occupation", "kind": "categorical", "width": 3}
YEAR = {"name": "year", "kind": "categorical", "width": 2}
TAGS = {"name": "tags", "kind": "multivalent", "width": 3, "max_length": 3}
GENRES = {"name": "genres", "kind": "multivalent", "width": 4, "max_length": 3}
AGE = {"name": "age", "kind": "numeric"}
PRICE = {"name": "price", "kind": "numeric"}
HISTORY = {"name": "history", "kind": "history", "width": 4, "max_length": 4}

RICH_QUERY: list[dict[str, Any]] = [QUERY_ID, OCCUPATION, TAGS, AGE, HISTORY]
RICH_CANDIDATE: list[dict[str, Any]] = [CANDIDATE_ID, GENRES, PRICE, YEAR]
EVERYTHING: dict[str, Any] = {
    "query": {"features": RICH_QUERY, "hidden_dims": [5, 3], "activation": "gelu"},
    "candidate": {"features": RICH_CANDIDATE, "hidden_dims": [6], "activation": "silu"},
    "model": {"dim": 4, "normalize": True, "candidate_bias": True},
    "loss": {"temperature": 0.3},
}

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "temperature": {"loss": {"temperature": 0.2}},
    "no_log_q": {"loss": {"log_q": "none"}},
    "accidental_hits_kept": {"loss": {"remove_accidental_hits": False}},
    "normalize": {"model": {"dim": 4, "normalize": True}, "loss": {"temperature": 0.1}},
    "candidate_bias": {"model": {"dim": 4, "candidate_bias": True}, "loss": {"temperature": 0.5}},
    "hidden_relu": {"query": {"features": [QUERY_ID], "hidden_dims": [4, 5], "activation": "relu"}},
    "hidden_gelu": {"candidate": {"features": [CANDIDATE_ID], "hidden_dims": [5], "activation": "gelu"}},
    "hidden_silu": {"query": {"features": [QUERY_ID], "hidden_dims": [5], "activation": "silu"}},
    "hidden_tanh": {"candidate": {"features": [CANDIDATE_ID], "hidden_dims": [4, 3], "activation": "tanh"}},
    "projection_only": {"model": {"dim": 3}},
    "multivalent": {"candidate": {"features": [CANDIDATE_ID, GENRES]}},
    "numeric": {"query": {"features": [QUERY_ID, AGE]}, "candidate": {"features": [PRICE, CANDIDATE_ID]}},
    "history": {"query": {"features": [HISTORY]}},
    "sum": {
        "query": {"features": [QUERY_ID, HISTORY], "combine": "sum"},
        "candidate": {"features": [GENRES, CANDIDATE_ID], "combine": "sum"},
    },
    "every_parameter": {
        "query": {"features": [QUERY_ID, HISTORY], "hidden_dims": [5], "activation": "gelu"},
        "candidate": {"features": [CANDIDATE_ID, GENRES, PRICE]},
        "model": {"dim": 4, "normalize": True, "candidate_bias": True},
        "loss": {"temperature": 0.3},
    },
    "everything": EVERYTHING,
    "learned_temperature": {
        "model": {"dim": 4, "candidate_bias": True},
        "loss": {"temperature": 0.5, "learn_temperature": True},
    },
}
"""Towers, logits and in-batch softmax, each a change of `plain`: two id embeddings, exact log_q, no accidental hits."""

ALL_COLUMNS: dict[str, Any] = {"sampled": NUM_SAMPLED, "impressions": NUM_SHOWN}
ALL_MASKS: dict[str, Any] = {"mask_known_positives": True, "mask_not_yet_seen": True}
BANK: dict[str, Any] = {"bank": {"num_batches": 2}}
WITH_BIAS: dict[str, Any] = {"dim": 4, "candidate_bias": True}
COSINE: dict[str, Any] = {"dim": 4, "normalize": True}


def _loss(kind: str, **settings: Any) -> dict[str, Any]:
    return {"kind": kind, "log_q": "none", **settings}


NEGATIVES: dict[str, dict[str, Any]] = {
    "sampled": {"negatives": {"sampled": NUM_SAMPLED}},
    "mined": {"negatives": {"mined": {"per_example": 1}}},
    "impressions": {"negatives": {"impressions": NUM_SHOWN}},
    "known_positives": {"negatives": {"mask_known_positives": True}},
    "not_yet_seen": {"negatives": {"mask_not_yet_seen": True, "sampled": NUM_SAMPLED}},
    "hardest": {"negatives": {"hardest": 2}},
    "hardest_one_of_all": {"model": WITH_BIAS, "negatives": {**ALL_COLUMNS, **ALL_MASKS, "hardest": 1}},
    "hardest_more_than_there_are": {"negatives": {**ALL_COLUMNS, "hardest": 50}},
    "bank": {"negatives": BANK},
    "bank_bias": {"model": WITH_BIAS, "loss": {"temperature": 0.5}, "negatives": BANK},
    "bank_all": {
        "model": WITH_BIAS,
        "loss": _loss("softmax", temperature=0.5),
        "negatives": {**ALL_COLUMNS, **BANK, "mask_known_positives": True, "hardest": 3},
    },
    "columns_hits_kept": {"loss": {"remove_accidental_hits": False}, "negatives": ALL_COLUMNS},
    "columns_all": {
        **EVERYTHING,
        "loss": {"temperature": 0.3, "learn_temperature": True},
        "negatives": {**ALL_COLUMNS, **ALL_MASKS},
    },
    "streaming_bank": {"loss": {"log_q": "streaming", "temperature": 0.7}, "negatives": BANK},
    "refined": {"loss": {"log_q": "refined"}},
    "refined_all": {
        "model": WITH_BIAS,
        "loss": {"log_q": "refined", "temperature": 0.5, "learn_temperature": True},
        "negatives": {**ALL_COLUMNS, **ALL_MASKS},
    },
    "refined_bank": {"loss": {"log_q": "refined", "temperature": 0.5}, "negatives": BANK},
    "full_softmax": {"loss": _loss("full_softmax")},
    "full_softmax_all": {
        **EVERYTHING,
        "loss": _loss("full_softmax", temperature=0.3, learn_temperature=True),
        "negatives": {"mask_known_positives": True, "hardest": 3},
    },
    "bpr": {"loss": _loss("bpr")},
    "bpr_all": {"model": WITH_BIAS, "loss": _loss("bpr", temperature=0.5), "negatives": {**ALL_COLUMNS, **ALL_MASKS}},
    "triplet": {"loss": _loss("triplet", margin=0.5)},
    "triplet_bank": {
        "model": {**WITH_BIAS, "normalize": True},
        "loss": _loss("triplet", margin=0.2),
        "negatives": {**ALL_COLUMNS, **BANK, "hardest": 4},
    },
    "contrastive": {"model": COSINE, "loss": _loss("contrastive", margin=0.9)},
    "contrastive_all": {
        "model": COSINE,
        "loss": _loss("contrastive", margin=1.2),
        "negatives": {**ALL_COLUMNS, **BANK, "mask_known_positives": True},
    },
    "sigmoid": {"loss": _loss("sigmoid", sigmoid_bias=-1.0)},
    "sigmoid_all": {
        "model": WITH_BIAS,
        "loss": _loss("sigmoid", sigmoid_bias=-10.0, temperature=0.1, learn_temperature=True),
        "negatives": {**ALL_COLUMNS, **BANK, "mask_known_positives": True, "hardest": 5},
    },
    "gbce": {"loss": _loss("gbce", gbce_t=0.5)},
    "gbce_all": {
        "model": WITH_BIAS,
        "loss": _loss("gbce", gbce_t=0.9, temperature=0.5),
        "negatives": {**ALL_COLUMNS, **ALL_MASKS, "hardest": 4},
    },
}
"""Every kind of column, every mask and every loss, alone and together."""

_TOWERS: dict[str, Any] = {name: CASES["every_parameter"][name] for name in ("query", "candidate", "model")}
_WITHOUT_BIAS: dict[str, Any] = {**_TOWERS, "model": COSINE}
TRAINED: dict[str, dict[str, Any]] = {
    "trained_bank": {
        **_TOWERS,
        "loss": {"temperature": 0.3, "learn_temperature": True, "temperature_range": [0.28, 0.32]},
        "negatives": {"bank": {"num_batches": 2, "warmup_steps": 3}, "hardest": 9},
    },
    "trained_bank_momentum": {
        **_TOWERS,
        "loss": {"temperature": 0.3, "log_q": "refined"},
        "negatives": {"bank": {"num_batches": 3, "momentum": 0.9}},
    },
    "trained_columns": {
        **_TOWERS,
        "loss": {"temperature": 0.3, "learn_temperature": True},
        "negatives": {**ALL_COLUMNS, **ALL_MASKS, "hardest": 6},
        "training": {"chunk_size": 4},
    },
    "trained_refined": {**_TOWERS, "loss": {"log_q": "refined", "temperature": 0.3}, "negatives": ALL_COLUMNS},
    "trained_full_softmax": {**_TOWERS, "loss": _loss("full_softmax", temperature=0.3, learn_temperature=True)},
    "trained_bpr": {**_TOWERS, "loss": _loss("bpr", temperature=0.3), "negatives": {"sampled": NUM_SAMPLED}},
    "trained_triplet": {**_TOWERS, "loss": _loss("triplet", margin=0.7), "negatives": {"impressions": NUM_SHOWN}},
    "trained_contrastive": {**_WITHOUT_BIAS, "loss": _loss("contrastive", margin=1.1), "negatives": ALL_COLUMNS},
    "trained_sigmoid": {
        **_TOWERS,
        "loss": _loss("sigmoid", sigmoid_bias=-1.0, temperature=0.3, learn_temperature=True),
        "negatives": {"mask_known_positives": True},
        "training": {"chunk_size": 4},
    },
    "trained_encode_once": {
        "query": {"features": [QUERY_ID, TAGS], "hidden_dims": [5], "activation": "gelu"},
        "candidate": CASES["every_parameter"]["candidate"],
        "model": _TOWERS["model"],
        "loss": {"temperature": 0.3, "log_q": "none"},
        "negatives": {**ALL_COLUMNS, "bank": {"num_batches": 3, "momentum": 0.9}},
        "training": {"encode_once": ["query", "candidate"]},
    },
    "trained_gbce": {**_TOWERS, "loss": _loss("gbce"), "negatives": {"sampled": NUM_SAMPLED, "hardest": 4}},
}
"""What rung 5 trains: on the towers that have every kind of parameter."""

NUM_DRAWN = 24
STRATA = [("softmax", log_q) for log_q in ("none", "exact", "streaming", "refined")]
STRATA += [(kind, "none") for kind in ("full_softmax", "bpr", "triplet", "contrastive", "sigmoid", "gbce")]
"""Loss and correction of drawn configurations: taken in turn, since some are refused more often than others."""
NUM_DRAWN_NEGATIVES = 5 * len(STRATA)


def _drawn(seed: int) -> dict[str, Any]:
    """A configuration drawn at random over all options of the towers at once."""
    generator = np.random.default_rng([seed, 2])
    return {
        **_drawn_towers(generator),
        "loss": {
            "temperature": _one_of(generator, 1.0, 0.3, 2.0),
            "log_q": _one_of(generator, "none", "exact"),
            "remove_accidental_hits": _one_of(generator, True, False),
        },
    }


def _drawn_with_negatives(seed: int) -> dict[str, Any]:
    """The same over losses, negatives and chunks as well: drawn until `RunConfig` takes one."""
    generator = np.random.default_rng([seed, 3])
    while True:
        tree = {**_drawn_towers(generator), **_drawn_losses(generator, *STRATA[seed % len(STRATA)])}
        try:
            config_of(tree, where="drawn")
        except UserError:
            continue
        return tree


def _drawn_towers(generator: np.random.Generator) -> dict[str, Any]:
    def tower(own: dict[str, Any], summable: dict[str, Any], rest: list[dict[str, Any]]) -> dict[str, Any]:
        sums = generator.random() < 0.25
        others = [summable] if sums else [feature for feature in rest if generator.random() < 0.5]
        return {
            "features": [own, *others] if generator.random() < 0.5 else [*others, own],
            "combine": "sum" if sums else "concat",
            "hidden_dims": _one_of(generator, [], [], [5], [4, 3]),
            "activation": _one_of(generator, "relu", "gelu", "silu", "tanh"),
        }

    return {
        "query": tower(QUERY_ID, HISTORY, RICH_QUERY[1:]),
        "candidate": tower(CANDIDATE_ID, GENRES, RICH_CANDIDATE[1:]),
        "model": {
            "dim": _one_of(generator, 3, 4),
            "normalize": _one_of(generator, True, False),
            "candidate_bias": _one_of(generator, True, False),
        },
    }


def _drawn_losses(generator: np.random.Generator, kind: str, log_q: str) -> dict[str, Any]:
    return {
        "loss": {
            "kind": kind,
            "temperature": _one_of(generator, 1.0, 0.3, 2.0),
            "learn_temperature": _one_of(generator, True, False),
            "temperature_range": _one_of(generator, [0.01, 10.0], [0.5, 1.5]),
            "log_q": log_q,
            "remove_accidental_hits": _one_of(generator, True, True, False),
            "margin": _one_of(generator, 0.0, 0.4, 1.3),
            "gbce_t": _one_of(generator, 0.0, 0.75, 1.0),
            "sigmoid_bias": _one_of(generator, 0.0, -2.0),
        },
        "negatives": {
            "mask_known_positives": _one_of(generator, True, False),
            "mask_not_yet_seen": _one_of(generator, True, False),
            "hardest": _one_of(generator, None, 1, 3, 50),
            "sampled": _one_of(generator, 0, NUM_SAMPLED),
            "impressions": _one_of(generator, 0, NUM_SHOWN),
            "bank": {"num_batches": _one_of(generator, 0, 2)},
        },
        "training": {"chunk_size": _one_of(generator, None, None, 1, 4, 6)},
    }


def _one_of(generator: np.random.Generator, *choices: Any) -> Any:
    return choices[generator.integers(len(choices))]


def config_of(tree: dict[str, Any], *, where: str, optimizer: dict[str, Any] | None = None) -> RunConfig:
    """The configuration of a case: `plain`, changed.

    Raises:
        UserError: the combination is refused.
    """
    base: dict[str, Any] = {
        "query": {"features": [QUERY_ID]},
        "candidate": {"features": [CANDIDATE_ID]},
        "model": {"dim": 4},
    }
    training = {"batch_size": NUM_ROWS, "device": "cpu"} | tree.get("training", {})
    return config_from_tree(base | tree | {"optimizer": optimizer or {}, "training": training}, where=where)


DRAWN: dict[str, dict[str, Any]] = {f"drawn_{seed}": _drawn(seed) for seed in range(NUM_DRAWN)}
"""More cases of towers and in-batch softmax, by number."""
DRAWN_NEGATIVES: dict[str, dict[str, Any]] = {
    f"drawn_negatives_{seed}": _drawn_with_negatives(seed) for seed in range(NUM_DRAWN_NEGATIVES)
}
"""More cases of losses, negatives and chunks, by number."""
EVERY_CASE: dict[str, dict[str, Any]] = CASES | NEGATIVES | TRAINED | DRAWN | DRAWN_NEGATIVES
