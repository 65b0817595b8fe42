import math

import numpy as np
import pytest
import torch

from torch_reference.layers.dense import DenseLayers

FORMULAS = {
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
}


def inputs(width):
    return torch.randn(6, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("activation", sorted(FORMULAS))
def test_hidden_layers_are_activated_and_the_last_is_linear(activation):
    layers = DenseLayers([(3, 4), (4, 5), (5, 2)], activation, 0.0, "float64")
    expected = inputs(3).numpy()
    for place, linear in enumerate(layers.linears):
        expected = expected @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()
        expected = FORMULAS[activation](expected) if place < 2 else expected
    np.testing.assert_allclose(layers(inputs(3)).detach().numpy(), expected, rtol=1e-12)


def test_one_layer_is_linear_and_none_is_the_identity():
    layers = DenseLayers([(3, 2)], "relu", 0.5, "float64")
    assert (layers(inputs(3)) < 0).any()
    assert torch.equal(DenseLayers([], "relu", 0.5)(inputs(3)), inputs(3))


def test_dropout_acts_after_hidden_layers_only():
    layers = DenseLayers([(3, 50), (50, 2)], "tanh", 0.5, "float64")
    generator = torch.Generator().manual_seed(0)
    one, other = layers(inputs(3), generator), layers(inputs(3), generator)
    assert not torch.equal(one, other)
    assert (one != 0).all()
    assert torch.equal(layers.eval()(inputs(3), generator), layers(inputs(3)))


@pytest.mark.parametrize("activation", sorted(FORMULAS))
def test_gradient(activation):
    layers = DenseLayers([(3, 4), (4, 2)], activation, 0.0, "float64")
    assert torch.autograd.gradcheck(layers, inputs(3).requires_grad_())


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_a_norm_stands_between_kernel_and_activation_of_hidden_layers(norm):
    layers = DenseLayers([(3, 4), (4, 2)], "relu", 0.0, "float64", norm=norm)
    x = torch.randn(5, 3, dtype=torch.float64)
    (only,) = layers.norms
    expected = layers.linears[1](torch.relu(only(layers.linears[0](x))))
    assert torch.equal(layers(x), expected)
    assert not torch.allclose(layers(x), layers.linears[1](torch.relu(layers.linears[0](x))))


def test_residual_adds_the_input_behind_the_dropout_where_widths_are_equal():
    layers = DenseLayers([(3, 3), (3, 4), (4, 4)], "tanh", 0.0, "float64", residual=True)
    x = torch.randn(5, 3, dtype=torch.float64)
    first, second, last = layers.linears
    hidden = torch.tanh(first(x)) + x
    assert torch.equal(layers(x), last(torch.tanh(second(hidden))))
