import pytest
import torch

from torch_reference.negatives.in_batch import in_batch_logits

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
