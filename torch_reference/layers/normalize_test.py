import torch

from torch_reference.layers.normalize import l2_normalize


def test_values():
    x = torch.tensor([[3.0, 4.0], [0.0, -2.0]])
    torch.testing.assert_close(l2_normalize(x), torch.tensor([[0.6, 0.8], [0.0, -1.0]]))


def test_zeros_stay_zeros_and_tiny_vectors_are_divided_by_the_floor():
    x = torch.tensor([[0.0, 0.0], [3e-14, 4e-14]], dtype=torch.float64, requires_grad=True)
    y = l2_normalize(x)
    torch.testing.assert_close(y, torch.tensor([[0.0, 0.0], [0.03, 0.04]], dtype=torch.float64))
    y.sum().backward()
    assert torch.isfinite(x.grad).all()


def test_gradient():
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(l2_normalize, x)
