from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from retrieval_contract.config import Loss, Negatives
from torch_reference.negatives.columns import Columns
from torch_reference.tasks.retrieval import QueryRows, RetrievalTask

B, E, S, X, D, NUM_CANDIDATES = 6, 3, 4, 2, 3, 9
GENERATOR = np.random.default_rng(0)
QUERY = GENERATOR.standard_normal((B, D))
ROWS = {
    "batch": np.array([3, 1, 3, 2, 1, 5]),
    "sampled": np.array([1, 8, 8]),
    "bank": np.array([3, 7, 2, 0]),
    "own": np.array([4, 3, 1, 6, 3, 0, 2, 5, 6, 8, 5, 7]),
}
VECTORS = {kind: GENERATOR.standard_normal((len(rows), D)) for kind, rows in ROWS.items()}
BIAS = {kind: GENERATOR.standard_normal(len(rows)) for kind, rows in ROWS.items()}
LOG_Q = {kind: np.log(GENERATOR.uniform(0.02, 0.3, len(rows))) for kind, rows in ROWS.items()}
WEIGHTS = GENERATOR.uniform(0.2, 2, B)
OWN_ALLOWED = GENERATOR.uniform(size=(B, X)) < 0.7
KNOWN = [(0, 3), (0, 8), (0, 4), (1, 1), (2, 3), (3, 2), (3, 0), (4, 1), (4, 5), (5, 5)]
ALLOWED = GENERATOR.uniform(size=(B, B + E)) < 0.7
ALLOWED[np.arange(B), np.arange(B)] = True
SIGMOID_BIAS = -1.5


@dataclass(frozen=True)
class Setting:
    """What a call of the task is given; the defaults give it everything."""

    loss: Loss = field(default_factory=lambda: Loss(temperature=0.4))
    negatives: Negatives = field(default_factory=Negatives)
    kinds: tuple[str, ...] = ("batch", "sampled", "bank", "own")
    bias: bool = True
    known: bool = True
    allowed: bool = True
    weights: np.ndarray = field(default_factory=lambda: WEIGHTS)


def tensors(kind, bias=True):
    arrays = (VECTORS[kind], ROWS[kind], LOG_Q[kind], BIAS[kind] if bias else None)
    return Columns(*(None if array is None else torch.tensor(array) for array in arrays))


def shared(setting):
    parts = [tensors(kind, setting.bias) for kind in ("batch", "sampled") if kind in setting.kinds]
    bias = torch.cat([part.bias_N for part in parts]) if setting.bias else None
    names = ("vectors_ND", "rows_N", "log_q_N")
    return Columns(*(torch.cat([getattr(part, name) for part in parts]) for name in names), bias)


def query_rows(setting, query=None):
    known = np.array(KNOWN).T
    width = B + (E if "sampled" in setting.kinds else 0)
    own = "own" in setting.kinds
    return QueryRows(
        torch.tensor(QUERY) if query is None else query,
        torch.tensor(setting.weights),
        torch.arange(B),
        impressions=tensors("own", setting.bias) if own else None,
        impressions_allowed_BX=torch.tensor(OWN_ALLOWED) if own else None,
        known_places_M=torch.tensor(known[0]) if setting.known else None,
        known_rows_M=torch.tensor(known[1]) if setting.known else None,
        allowed_BN=torch.tensor(ALLOWED[:, :width]) if setting.allowed else None,
    )


def arguments(setting):
    return {"temperature": setting.loss.temperature, "sigmoid_bias": torch.tensor([SIGMOID_BIAS])}


def computed(setting, **changes):
    task = RetrievalTask(setting.loss, setting.negatives, NUM_CANDIDATES)
    bank = tensors("bank", setting.bias) if "bank" in setting.kinds else None
    return task(query_rows(setting), shared(setting), bank, **arguments(setting) | changes).item()


# ---------------------------------------------------------------- by hand: every row a list of what remains


def remaining(setting, i):
    """Logit of row i's positive, and (logit, log_q) of its negatives, what is masked left out."""
    loss = setting.loss

    def logit(kind, j):
        score = QUERY[i] @ VECTORS[kind][j] / loss.temperature + (BIAS[kind][j] if setting.bias else 0)
        return score - (LOG_Q[kind][j] if loss.log_q in ("exact", "streaming") else 0)

    found = []
    for kind in setting.kinds:
        places = range(i * X, i * X + X) if kind == "own" else range(len(ROWS[kind]))
        for j in places:
            column = {"batch": j, "sampled": B + j}.get(kind)
            row = ROWS[kind][j]
            gone = (
                (kind == "batch" and j == i)
                or (loss.remove_accidental_hits and row == ROWS["batch"][i])
                or (setting.known and (i, row) in KNOWN)
                or (setting.allowed and column is not None and not ALLOWED[i, column])
                or (kind == "own" and not OWN_ALLOWED[i, j - i * X])
            )
            if not gone:
                found.append((logit(kind, j), LOG_Q[kind][j]))
    found.sort(key=lambda pair: -pair[0])
    return logit("batch", i), np.array(found[: setting.negatives.hardest]).reshape(-1, 2).T


def softplus(x):
    return np.logaddexp(0, x)


def row_loss(setting, i):
    loss = setting.loss
    positive, (negatives, log_q) = remaining(setting, i)
    n = len(negatives)
    mean = (lambda values: values.mean()) if n else (lambda values: 0.0)
    if loss.log_q == "refined":
        if not n:
            return 0.0
        q_p = np.exp(LOG_Q["batch"][i])
        corrected = negatives - (log_q - np.log(1 - q_p))
        x = np.log(np.exp(corrected).sum())
        weight = 1 - np.exp(positive) / (np.exp(positive) + np.exp(corrected).mean())
        return -weight * (positive - x)
    if loss.kind in ("softmax", "full_softmax"):
        return np.log(np.exp([positive, *negatives]).sum()) - positive
    if loss.kind == "bpr":
        return mean(softplus(negatives - positive))
    if loss.kind == "triplet":
        return mean(np.maximum(0, loss.margin + negatives - positive))
    if loss.kind == "contrastive":
        return ((1 - positive) ** 2 + mean(np.maximum(0, loss.margin - (1 - negatives)) ** 2)) / 2
    if loss.kind == "sigmoid":
        return softplus(-(positive + SIGMOID_BIAS)) + softplus(negatives + SIGMOID_BIAS).sum()
    alpha = min(1, n / (NUM_CANDIDATES - 1))
    beta = 1 - loss.gbce_t * (1 - alpha)
    return (beta * softplus(-positive) + softplus(negatives).sum()) / (n + 1)


def by_hand(setting):
    losses = [row_loss(setting, i) for i in range(B)]
    return (setting.weights * losses).sum() / setting.weights.sum()


LOSSES = {
    "softmax": Loss(temperature=0.4),
    "uncorrected": Loss(temperature=0.4, log_q="none"),
    "hits_kept": Loss(temperature=0.4, remove_accidental_hits=False),
    "refined": Loss(temperature=0.4, log_q="refined"),
    **{
        kind: Loss(kind=kind, temperature=0.4, log_q="none", sigmoid_bias=SIGMOID_BIAS)
        for kind in ("bpr", "triplet", "contrastive", "sigmoid", "gbce")
    },
}


@pytest.mark.parametrize("kinds", [("batch",), ("batch", "bank"), ("batch", "sampled", "own"), Setting.kinds])
@pytest.mark.parametrize("kind", LOSSES)
def test_every_step_in_its_order_with_columns_of_every_kind(kind, kinds):
    setting = Setting(loss=LOSSES[kind], kinds=kinds)
    assert computed(setting) == pytest.approx(by_hand(setting), rel=1e-12)
    plain = replace(setting, bias=False, known=False, allowed=False)
    assert computed(plain) == pytest.approx(by_hand(plain), rel=1e-12)
    assert computed(setting) != pytest.approx(computed(plain), rel=1e-4)


@pytest.mark.parametrize("kind", [kind for kind in LOSSES if kind != "refined"])
def test_the_hardest_are_taken_of_what_the_masks_leave(kind):
    for hardest in (1, 3, 50):
        setting = Setting(loss=LOSSES[kind], negatives=Negatives(hardest=hardest))
        assert computed(setting) == pytest.approx(by_hand(setting), rel=1e-12)


WRONG = {
    "log_q divided by the temperature": {"LOG_Q": {kind: array / 0.4 for kind, array in LOG_Q.items()}},
    "bias divided by the temperature": {"BIAS": {kind: array / 0.4 for kind, array in BIAS.items()}},
    "log_q of the bank forgotten": {"LOG_Q": LOG_Q | {"bank": 0 * LOG_Q["bank"]}},
    "bias of the impressions forgotten": {"BIAS": BIAS | {"own": 0 * BIAS["own"]}},
    "hits among the sampled kept": {"ROWS": ROWS | {"sampled": np.array([0, 0, 0])}},
    "hits among the bank kept": {"ROWS": ROWS | {"bank": np.array([8, 8, 8, 8])}},
    "known positives in the batch alone": {"KNOWN": [pair for pair in KNOWN if pair[1] in ROWS["batch"]]},
    "impressions all allowed": {"OWN_ALLOWED": np.ones_like(OWN_ALLOWED)},
    "weights forgotten": {"WEIGHTS": np.ones(B)},
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_step_left_out_or_out_of_order_is_noticed(fault, monkeypatch):
    right = computed(Setting())
    for name, value in WRONG[fault].items():
        monkeypatch.setitem(globals(), name, value)
    assert right != pytest.approx(by_hand(Setting()), rel=1e-6)


def test_hardest_before_the_masks_is_noticed():
    setting = Setting(negatives=Negatives(hardest=2))
    before = replace(setting, known=False, allowed=False, loss=LOSSES["hits_kept"])
    assert computed(setting) != pytest.approx(by_hand(before), rel=1e-3)


@pytest.mark.parametrize("kind", LOSSES)
def test_blocks_of_rows_add_up_to_the_whole(kind):
    setting = Setting(loss=LOSSES[kind])
    task = RetrievalTask(setting.loss, setting.negatives, NUM_CANDIDATES)
    total = torch.tensor(WEIGHTS.sum())
    parts = [
        task(
            query_rows(setting).block(start, min(start + 4, B)),
            shared(setting),
            tensors("bank"),
            **arguments(setting),
            total_weight=total,
        ).item()
        for start in range(0, B, 4)
    ]
    assert sum(parts) == pytest.approx(by_hand(setting), rel=1e-12)


def test_positives_may_stand_in_any_column():
    setting = Setting(kinds=("batch", "bank"), allowed=False)
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    columns = shared(setting)
    moved = Columns(*(getattr(columns, name)[order] for name in ("vectors_ND", "rows_N", "log_q_N", "bias_N")))
    rows = replace(query_rows(setting), positive_columns_B=order.argsort())
    task = RetrievalTask(setting.loss, setting.negatives, NUM_CANDIDATES)
    loss = task(rows, moved, tensors("bank"), **arguments(setting)).item()
    assert loss == pytest.approx(by_hand(setting), rel=1e-12)
    wrong = task(replace(rows, positive_columns_B=torch.arange(B)), moved, tensors("bank"), **arguments(setting))
    assert wrong.item() != pytest.approx(loss, rel=1e-3)


@pytest.mark.parametrize("kind", [kind for kind in LOSSES if kind != "refined"])
def test_gradient(kind):
    setting = Setting(loss=LOSSES[kind])
    task = RetrievalTask(setting.loss, setting.negatives, NUM_CANDIDATES)
    rows, columns, bank = query_rows(setting), shared(setting), tensors("bank")

    def loss(query, candidate, bias, own, own_bias, temperature, beta):
        own_columns = replace(rows.impressions, vectors_ND=own, bias_N=own_bias)
        return task(
            replace(rows, vectors_BD=query, impressions=own_columns),
            replace(columns, vectors_ND=candidate, bias_N=bias),
            bank,
            temperature=temperature,
            sigmoid_bias=beta,
        )

    inputs = (rows.vectors_BD, columns.vectors_ND, columns.bias_N, rows.impressions.vectors_ND, rows.impressions.bias_N)
    numbers = torch.tensor([[0.4], [SIGMOID_BIAS]], dtype=torch.float64)
    assert torch.autograd.gradcheck(loss, [tensor.clone().requires_grad_() for tensor in (*inputs, *numbers)])


@pytest.mark.parametrize("kind", LOSSES)
def test_a_query_left_with_its_positive_alone_is_finite(kind):
    setting = Setting(loss=LOSSES[kind], kinds=("batch",), known=False)
    rows = replace(query_rows(setting), allowed_BN=torch.eye(B, dtype=torch.bool))
    query = rows.vectors_BD.clone().requires_grad_()
    task = RetrievalTask(setting.loss, setting.negatives, NUM_CANDIDATES)
    loss = task(replace(rows, vectors_BD=query), shared(setting), **arguments(setting))
    loss.backward()
    assert loss.isfinite()
    assert query.grad.isfinite().all()
    if kind not in ("contrastive", "sigmoid", "gbce"):
        assert loss.item() == 0
        assert query.grad.abs().sum() == 0
