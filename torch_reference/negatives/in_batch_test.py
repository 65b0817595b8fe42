import pytest
import torch

from torch_reference.negatives.in_batch import in_batch_logits, row_wise_logits

QUERY = torch.tensor([[1.0, 2.0], [0.0, -1.0]], dtype=torch.float64)
CANDIDATE = torch.tensor([[3.0, 0.0], [1.0, 1.0], [0.0, 2.0]], dtype=torch.float64)
PRODUCT = [[3.0, 3.0, 4.0], [0.0, -1.0, -2.0]]
BIAS = torch.tensor([0.5, -0.25, 1.0], dtype=torch.float64)
LOG_Q = torch.tensor([-1.0, -2.0, -4.0], dtype=torch.float64)


@pytest.mark.parametrize("bias", [None, BIAS])
@pytest.mark.parametrize("log_q", [None, LOG_Q])
def test_the_temperature_divides_the_product_alone(bias, log_q):
    logits = in_batch_logits(QUERY, CANDIDATE, temperature=0.5, bias_N=bias, log_q_N=log_q)
    expected = torch.tensor(PRODUCT, dtype=torch.float64) / 0.5
    expected = expected if bias is None else expected + bias
    expected = expected if log_q is None else expected - log_q
    torch.testing.assert_close(logits, expected, rtol=1e-14, atol=1e-14)


def test_a_correction_divided_by_the_temperature_is_noticed():
    logits = in_batch_logits(QUERY, CANDIDATE, temperature=0.5, log_q_N=LOG_Q)
    wrong = (QUERY @ CANDIDATE.T - LOG_Q) / 0.5
    assert not torch.allclose(logits, wrong)


def test_inputs_are_not_written():
    bias, log_q = BIAS.clone(), LOG_Q.clone()
    in_batch_logits(QUERY, CANDIDATE, temperature=1.0, bias_N=bias, log_q_N=log_q)
    assert torch.equal(bias, BIAS)
    assert torch.equal(log_q, LOG_Q)


def test_gradient():
    inputs = [tensor.clone().requires_grad_() for tensor in (QUERY, CANDIDATE, BIAS)]
    assert torch.autograd.gradcheck(
        lambda query, candidate, bias: in_batch_logits(query, candidate, temperature=0.3, bias_N=bias, log_q_N=LOG_Q),
        inputs,
    )


@pytest.mark.parametrize("learned", [False, True])
def test_a_learned_temperature_is_a_tensor_of_one_number(learned):
    temperature = torch.tensor([0.3], dtype=torch.float64) if learned else 0.3
    plain = in_batch_logits(QUERY, CANDIDATE, temperature=0.3, bias_N=BIAS)
    assert torch.equal(in_batch_logits(QUERY, CANDIDATE, temperature=temperature, bias_N=BIAS), plain)
    own = CANDIDATE[:2].unsqueeze(1)
    assert torch.equal(
        row_wise_logits(QUERY, own, temperature=temperature), row_wise_logits(QUERY, own, temperature=0.3)
    )


def test_gradient_by_the_temperature():
    temperature = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda t: in_batch_logits(QUERY, CANDIDATE, temperature=t, bias_N=BIAS), temperature
    )


# ---------------------------------------------------------------- candidates of each query's own

OWN = torch.tensor([[[1.0, 0.0], [0.0, 3.0]], [[2.0, 1.0], [1.0, -1.0]]], dtype=torch.float64)
OWN_BIAS = torch.tensor([[0.5, 1.0], [-1.0, 0.0]], dtype=torch.float64)
OWN_LOG_Q = torch.tensor([[-1.0, -2.0], [-3.0, -4.0]], dtype=torch.float64)


def test_every_query_meets_its_own_candidates():
    logits = row_wise_logits(QUERY, OWN, temperature=0.5, bias_BX=OWN_BIAS, log_q_BX=OWN_LOG_Q)
    product = torch.tensor([[1.0, 6.0], [-1.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(logits, product / 0.5 + OWN_BIAS - OWN_LOG_Q, rtol=1e-14, atol=0)
    torch.testing.assert_close(row_wise_logits(QUERY, OWN, temperature=1.0), product, rtol=1e-14, atol=0)


def test_the_same_candidates_for_all_are_shared_columns():
    shared = in_batch_logits(QUERY, CANDIDATE, temperature=0.3, bias_N=BIAS, log_q_N=LOG_Q)
    own = row_wise_logits(
        QUERY,
        CANDIDATE.expand(2, -1, -1),
        temperature=0.3,
        bias_BX=BIAS.expand(2, -1),
        log_q_BX=LOG_Q.expand(2, -1),
    )
    torch.testing.assert_close(own, shared, rtol=1e-14, atol=1e-14)


def test_no_candidates_of_their_own_are_no_columns():
    assert row_wise_logits(QUERY, OWN[:, :0], temperature=0.3).shape == (2, 0)


def test_row_wise_gradient():
    inputs = [tensor.clone().requires_grad_() for tensor in (QUERY, OWN, OWN_BIAS)]
    assert torch.autograd.gradcheck(
        lambda query, own, bias: row_wise_logits(query, own, temperature=0.3, bias_BX=bias, log_q_BX=OWN_LOG_Q), inputs
    )
