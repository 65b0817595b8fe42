import numpy as np
import pytest
import torch

from retrieval_contract.config import Loss
from torch_reference.tasks.retrieval import RetrievalTask

B, D = 6, 3
GENERATOR = np.random.default_rng(0)
QUERY, CANDIDATE = GENERATOR.standard_normal((2, B, D))
BIAS, LOG_Q = GENERATOR.standard_normal(B), np.log(GENERATOR.uniform(0.01, 0.5, B))
ROWS = np.array([3, 1, 3, 2, 1, 5])
WEIGHTS = GENERATOR.uniform(0, 2, B)
ALLOWED = GENERATOR.uniform(size=(B, B)) < 0.7
np.fill_diagonal(ALLOWED, True)


def loss(settings, **changes):
    arguments = {"bias_N": BIAS, "candidate_rows_B": ROWS, "log_q_N": LOG_Q, "weights_B": WEIGHTS, **changes}
    tensors = {name: None if array is None else torch.tensor(array) for name, array in arguments.items()}
    return RetrievalTask(settings)(torch.tensor(QUERY), torch.tensor(CANDIDATE), **tensors).item()


def formula(*, temperature, bias=BIAS, log_q=LOG_Q, accidental=True, allowed=None, weights=WEIGHTS):
    logits = QUERY @ CANDIDATE.T / temperature + bias - log_q
    if accidental:
        logits[(ROWS[:, None] == ROWS[None, :]) & ~np.eye(B, dtype=bool)] = -np.inf
    if allowed is not None:
        logits[~allowed] = -np.inf
    losses = np.log(np.exp(logits).sum(axis=1)) - np.diag(logits)
    return (weights * losses).sum() / weights.sum()


def test_every_step_in_its_order():
    assert loss(Loss(temperature=0.4)) == pytest.approx(formula(temperature=0.4), rel=1e-12)
    with_mask = loss(Loss(temperature=0.4), allowed_BN=ALLOWED)
    assert with_mask == pytest.approx(formula(temperature=0.4, allowed=ALLOWED), rel=1e-12)


def test_what_is_not_configured_does_not_act():
    plain = Loss(log_q="none", remove_accidental_hits=False)
    expected = formula(temperature=1, bias=0, log_q=0, accidental=False, weights=np.ones(B))
    assert loss(plain, bias_N=None, weights_B=None) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "wrong",
    [{"log_q": LOG_Q / 0.4}, {"bias": BIAS / 0.4}, {"accidental": False}, {"weights": np.ones(B)}, {"log_q": 0}],
)
def test_a_step_left_out_or_out_of_order_is_noticed(wrong):
    assert loss(Loss(temperature=0.4)) != pytest.approx(formula(**{"temperature": 0.4, **wrong}), rel=1e-4)


def test_a_configured_step_without_its_input_is_refused():
    with pytest.raises(AssertionError, match="log_q_N is missing"):
        loss(Loss(), log_q_N=None)
    with pytest.raises(AssertionError, match="candidate_rows_B is missing"):
        loss(Loss(), candidate_rows_B=None)


def test_gradient():
    task = RetrievalTask(Loss(temperature=0.4))
    inputs = [torch.tensor(array, requires_grad=True) for array in (QUERY, CANDIDATE, BIAS)]
    rows, log_q, weights = torch.tensor(ROWS), torch.tensor(LOG_Q), torch.tensor(WEIGHTS)
    assert torch.autograd.gradcheck(
        lambda query, candidate, bias: task(
            query, candidate, bias_N=bias, candidate_rows_B=rows, log_q_N=log_q, weights_B=weights
        ),
        inputs,
    )
