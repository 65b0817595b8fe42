import numpy as np
import torch

from torch_reference.layers.gru import GruPooling


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_states_by_hand_and_the_last_item_counts(planted_layer, items):
    pooling = planted_layer(GruPooling(4, "float64"))
    parts = {name: (x.T if transposed else x).detach().numpy() for name, (x, transposed) in pooling.parts.items()}
    values, real = items()
    places, pooled = (f(values, real).detach().numpy() for f in (pooling.places, pooling))
    for row, (history, kept) in enumerate(zip(values.numpy(), real.numpy(), strict=True)):
        h = np.zeros(4)
        for place, x in enumerate(history[kept]):
            inputs = np.split(x @ parts["input_kernel"] + parts["input_bias"], 3)
            states = np.split(h @ parts["recurrent_kernel"] + parts["recurrent_bias"], 3)
            reset, update = sigmoid(inputs[0] + states[0]), sigmoid(inputs[1] + states[1])
            h = (1 - update) * np.tanh(inputs[2] + reset * states[2]) + update * h
            np.testing.assert_allclose(places[row, place], h, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(pooled[row], h, rtol=1e-12, atol=1e-14)


def test_padding_never_leaks(planted_layer, assert_padding_never_leaks):
    assert_padding_never_leaks(planted_layer(GruPooling(4, "float64")))


def test_a_place_sees_no_later_item(planted_layer, items):
    pooling, (values, real) = planted_layer(GruPooling(4, "float64")), items()
    before = pooling.places(values, real)
    later = values.clone()
    later[:, 2:] += 1
    assert torch.equal(pooling.places(later, real)[:, :2], before[:, :2])
    assert not torch.equal(pooling.places(later, real)[:, 2:], before[:, 2:])
