"""The task against stock `tfrs.tasks.Retrieval`: equal where that is right, and different where it is not."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs

from retrieval_contract.config import Loss, Negatives
from tfrs_models.negatives.columns import Columns
from tfrs_models.tasks.retrieval import RetrievalTask

GENERATOR = np.random.default_rng(0)
QUERY = tf.constant(GENERATOR.normal(size=(8, 5)), tf.float32)
CANDIDATE = tf.constant(GENERATOR.normal(size=(8, 5)), tf.float32)
WEIGHTS = tf.constant([1, 2, 0.5, 0, 1, 3, 1, 0.25], tf.float32)
ROWS = tf.constant([4, 2, 4, 0, 1, 4, 2, 9])
PROBABILITY = tf.constant([1e-5, 0.5, 2e-6, 0.01, 0.3, 1e-3, 0.1, 0.02], tf.float32)


def _ours(settings, probability=PROBABILITY, weights=WEIGHTS, bias=None, query=QUERY, candidate=CANDIDATE):
    columns = Columns(candidate, ROWS, tf.math.log(probability), bias)
    task = RetrievalTask(settings, Negatives(), 10)
    diagonal = tf.range(8)
    return task(query, columns, positive_columns_B=diagonal, weights_B=weights, temperature=settings.temperature)


def _stock(settings, probability=PROBABILITY, weights=WEIGHTS, query=QUERY, candidate=CANDIDATE):
    task = tfrs.tasks.Retrieval(
        temperature=settings.temperature, remove_accidental_hits=settings.remove_accidental_hits
    )
    return task(
        query,
        candidate,
        sample_weight=weights,
        candidate_sampling_probability=None if settings.log_q == "none" else probability,
        candidate_ids=ROWS,
    )


@pytest.mark.parametrize("remove_accidental_hits", [False, True])
@pytest.mark.parametrize("log_q", ["none", "exact"])
@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_equals_stock_over_the_sum_of_the_weights(temperature, log_q, remove_accidental_hits):
    settings = Loss(temperature=temperature, log_q=log_q, remove_accidental_hits=remove_accidental_hits)
    np.testing.assert_allclose(_ours(settings), _stock(settings) / tf.reduce_sum(WEIGHTS), rtol=2e-6)


def test_gradients_equal_stock_ones_too():
    settings = Loss(temperature=0.5)
    gradients = []
    for loss in (_ours, _stock):
        with tf.GradientTape() as tape:
            tape.watch([QUERY, CANDIDATE])
            value = loss(settings) if loss is _ours else loss(settings) / tf.reduce_sum(WEIGHTS)
        gradients.append(tape.gradient(value, [QUERY, CANDIDATE]))
    for ours, stock in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, stock, rtol=1e-4, atol=1e-7)


def test_accidental_hits_and_log_q_are_not_idle_in_the_comparison():
    losses = {
        float(_ours(Loss(log_q=q, remove_accidental_hits=hits))) for q in ("none", "exact") for hits in (True, False)
    }
    assert len({round(loss, 3) for loss in losses}) == 4


def test_a_candidate_rarer_than_one_in_a_million_is_corrected_as_what_it_is():
    rare, clipped = (tf.constant([p] + [0.1] * 7, tf.float32) for p in (1e-8, 1e-6))
    settings = Loss(remove_accidental_hits=False)
    total = tf.reduce_sum(WEIGHTS)
    np.testing.assert_allclose(_stock(settings, rare), _stock(settings, clipped), rtol=1e-7)
    np.testing.assert_allclose(_ours(settings, clipped), _stock(settings, clipped) / total, rtol=2e-6)
    assert abs(_ours(settings, rare) - _stock(settings, rare) / total) > 1
    # By hand: the column of the rare candidate rises by log(1e-6 / 1e-8), in every row.
    logits = QUERY.numpy() @ CANDIDATE.numpy().T - np.log(np.asarray([1e-8] + [0.1] * 7))
    loss = np.log(np.exp(logits).sum(axis=1)) - np.diag(logits)
    np.testing.assert_allclose(_ours(settings, rare), (WEIGHTS * loss).numpy().sum() / total, rtol=2e-6)


def test_a_bias_equals_stock_with_one_more_dimension():
    bias, settings = tf.constant(GENERATOR.normal(size=8), tf.float32), Loss(temperature=0.4)
    query = tf.concat([QUERY, tf.ones([8, 1])], axis=1)
    candidate = tf.concat([CANDIDATE, settings.temperature * bias[:, None]], axis=1)
    stock = _stock(settings, query=query, candidate=candidate) / tf.reduce_sum(WEIGHTS)
    np.testing.assert_allclose(_ours(settings, bias=bias), stock, rtol=2e-6)
    assert abs(_ours(settings) - stock) > 0.01


def test_float64_vectors_are_not_rounded_on_the_way_in():
    third = tf.ones([8, 1], tf.float64) / 3
    query, candidate = tf.concat([third, 0 * third], 1), tf.concat([third, third], 1)
    nearly = query + 1e-10 * tf.constant([[1.0, 0.0]], tf.float64) * tf.range(8, dtype=tf.float64)[:, None]
    settings = Loss(log_q="none", remove_accidental_hits=False)
    wide = candidate * tf.range(1, 9, dtype=tf.float64)[:, None]
    assert _ours(settings, query=query, candidate=wide) != _ours(settings, query=nearly, candidate=wide)
    assert _ours(settings, query=query, candidate=wide).dtype == tf.float64


def test_it_is_a_tfrs_task():
    assert isinstance(RetrievalTask(Loss(), Negatives(), 10), tfrs.tasks.Retrieval)


# ---------------------------------------------------------------- every source of negatives, against a loop

NUM_COLUMNS, NUM_BANK, NUM_SHOWN = 11, 6, 3
P = tf.constant([4, 0, 2, 7, 1, 3, 6, 5])
COLUMN_ROWS = GENERATOR.integers(0, 7, NUM_COLUMNS).astype(np.int32)
KNOWN = GENERATOR.random((8, 7)) < 0.25
ALLOWED = GENERATOR.random((8, NUM_COLUMNS)) < 0.8
ALLOWED[np.arange(8), P.numpy()] = True
SHOWN_ALLOWED = GENERATOR.random((8, NUM_SHOWN)) < 0.7
SHOWN_ALLOWED[3] = False


def _drawn(*shape, rows=None):
    rows = GENERATOR.integers(0, 7, shape).astype(np.int32) if rows is None else rows
    return Columns(
        tf.constant(GENERATOR.normal(size=(*shape, 5))),
        tf.constant(rows),
        tf.constant(np.log(GENERATOR.uniform(0.02, 0.3, shape))),
        tf.constant(GENERATOR.normal(size=shape)),
    )


SHARED, BANK, SHOWN = _drawn(NUM_COLUMNS, rows=COLUMN_ROWS), _drawn(NUM_BANK), _drawn(8, NUM_SHOWN)
QUERY_64, WEIGHTS_64 = tf.cast(QUERY, tf.float64), tf.cast(WEIGHTS, tf.float64)


def _whole(settings, negatives, query=QUERY_64, shared=SHARED, bank=BANK, shown=SHOWN, temperature=0.7):
    places, rows = (tf.constant(found, tf.int32) for found in KNOWN.nonzero())
    return RetrievalTask(settings, negatives, 40)(
        query,
        shared,
        positive_columns_B=P,
        weights_B=WEIGHTS_64,
        temperature=temperature,
        sigmoid_bias=tf.constant(-0.4, tf.float64),
        bank=bank,
        allowed_BN=tf.constant(ALLOWED),
        known_positives={"places": places, "rows": rows},
        impressions=shown,
        impressions_allowed_BX=tf.constant(SHOWN_ALLOWED),
    )


def _row_by_hand(settings, negatives, i):
    """Positive and negatives (logit, log_q) of one row: steps 1 to 6 of the order on the logits, column by column."""
    query, p = QUERY_64.numpy()[i], int(P[i])
    own = Columns(*(tensor[i] for tensor in SHOWN))
    parts = [(SHARED, ALLOWED[i]), (BANK, np.ones(NUM_BANK, bool)), (own, SHOWN_ALLOWED[i])]
    found, positive, target = [], None, COLUMN_ROWS[p]
    for part, (columns, allowed) in enumerate(parts):
        vectors, rows, log_qs, biases = (tensor.numpy() for tensor in columns)
        for j, row in enumerate(rows):
            logit = query @ vectors[j] / 0.7 + biases[j]
            logit -= log_qs[j] if settings.log_q in ("exact", "streaming") else 0
            if part == 0 and j == p:
                positive = (logit, log_qs[j])
                continue
            hit = settings.remove_accidental_hits and row == target
            known = negatives.mask_known_positives and KNOWN[i, row]
            if allowed[j] and not hit and not known:
                found.append((logit, log_qs[j]))
    found = sorted(found, reverse=True)[: negatives.hardest]
    return positive, found


def _loss_by_hand(settings, negatives):
    total = 0.0
    for i, weight in enumerate(WEIGHTS_64.numpy()):
        (s_p, log_q_p), found = _row_by_hand(settings, negatives, i)
        s, n = np.asarray([logit for logit, _ in found]), len(found)
        if settings.log_q == "refined":
            x = np.log(np.exp(s - [log_q for _, log_q in found]).sum() * (1 - np.exp(log_q_p)))
            loss = (1 - np.exp(s_p) / (np.exp(s_p) + np.exp(x) / n)) * (x - s_p)
        else:
            alpha = min(1, n / 39)
            loss = {
                "softmax": lambda: np.log(np.exp(s).sum() + np.exp(s_p)) - s_p,
                "bpr": lambda: np.log1p(np.exp(s - s_p)).mean(),
                "triplet": lambda: np.maximum(0, 0.2 + s - s_p).mean(),
                "contrastive": lambda: ((1 - s_p) ** 2 + (np.maximum(0, 0.2 - (1 - s)) ** 2).mean()) / 2,
                "sigmoid": lambda: np.log1p(np.exp(0.4 - s_p)) + np.log1p(np.exp(s - 0.4)).sum(),
                "gbce": lambda: (
                    ((1 - 0.75 * (1 - alpha)) * np.log1p(np.exp(-s_p)) + np.log1p(np.exp(s)).sum()) / (n + 1)
                ),
            }[settings.kind]()
        total += weight * loss
    return total / WEIGHTS_64.numpy().sum()


LOSSES = [
    {"kind": "softmax", "log_q": "none"},
    {"kind": "softmax", "log_q": "exact"},
    {"kind": "softmax", "log_q": "streaming"},
    {"kind": "softmax", "log_q": "refined"},
    *({"kind": kind, "log_q": "none"} for kind in ("bpr", "triplet", "contrastive", "sigmoid", "gbce")),
]
MASKS = [
    ({"remove_accidental_hits": False}, {}),
    ({}, {}),
    ({}, {"mask_known_positives": True}),
    ({}, {"hardest": 4}),
    ({"remove_accidental_hits": False}, {"mask_known_positives": True, "hardest": 2}),
]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: "-".join(loss.values()))
@pytest.mark.parametrize(("hits", "masks"), MASKS, ids=str)
def test_every_loss_over_every_source_of_negatives_by_hand(loss, hits, masks):
    settings, negatives = Loss(**loss, **hits), Negatives(**masks)
    np.testing.assert_allclose(_whole(settings, negatives), _loss_by_hand(settings, negatives), rtol=1e-12)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: "-".join(loss.values()))
def test_gradients_of_every_loss_numerically(loss):
    settings, negatives = Loss(**loss), Negatives(mask_known_positives=True, hardest=6)
    if loss["log_q"] == "refined":
        pytest.skip("the weight of a row has no gradient, and a difference of losses has")

    def find(query, vectors, bias, shown, temperature):
        shared = SHARED._replace(vectors_ND=vectors, bias_N=bias)
        return _whole(settings, negatives, query, shared, BANK, SHOWN._replace(vectors_ND=shown), temperature)

    at = [QUERY_64, SHARED.vectors_ND, SHARED.bias_N, SHOWN.vectors_ND, tf.constant(0.7, tf.float64)]
    for analytic, numeric in zip(*tf.test.compute_gradient(find, at, delta=1e-6), strict=True):
        assert np.isfinite(analytic).all()
        np.testing.assert_allclose(analytic, numeric, atol=1e-7)


def test_each_source_of_negatives_counts():
    settings, negatives = Loss(log_q="none"), Negatives()
    losses = [
        float(_whole(settings, negatives, **without))
        for without in ({}, {"bank": None}, {"shown": None}, {"bank": None, "shown": None})
    ]
    assert len({round(loss, 6) for loss in losses}) == 4
    assert losses[0] == max(losses) and losses[3] == min(losses)


def test_an_empty_bank_is_none():
    nothing = Columns(*(tensor[:0] for tensor in BANK))
    for log_q in ("none", "exact", "refined"):
        settings = Loss(log_q=log_q)
        np.testing.assert_allclose(
            _whole(settings, Negatives(), bank=nothing), _whole(settings, Negatives(), bank=None), rtol=1e-14
        )


def test_full_softmax_over_the_catalogue_by_hand():
    catalogue = Columns(SHARED.vectors_ND, tf.range(NUM_COLUMNS), 0 * SHARED.log_q_N, SHARED.bias_N)
    task = RetrievalTask(Loss(kind="full_softmax", log_q="none"), Negatives(), NUM_COLUMNS)
    loss = task(QUERY_64, catalogue, positive_columns_B=P, weights_B=WEIGHTS_64, temperature=0.3)
    logits = QUERY_64.numpy() @ SHARED.vectors_ND.numpy().T / 0.3 + SHARED.bias_N.numpy()
    loss_B = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(8), P.numpy()]
    np.testing.assert_allclose(loss, (WEIGHTS_64 * loss_B).numpy().sum() / WEIGHTS_64.numpy().sum(), rtol=1e-12)
