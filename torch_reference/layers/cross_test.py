import torch

from torch_reference.layers.cross import CrossLayers


def test_layers_by_hand():
    layers, x = CrossLayers(3, 2, "float64"), torch.randn(4, 3, dtype=torch.float64)
    expected = x
    for linear in layers.linears:
        expected = x * (expected @ linear.weight.T + linear.bias) + expected
    torch.testing.assert_close(layers(x), expected, rtol=1e-14, atol=1e-15)
    assert not torch.allclose(layers(x), x)


def test_without_layers_it_is_the_identity():
    x = torch.randn(2, 3)
    assert CrossLayers(3, 0)(x) is x
