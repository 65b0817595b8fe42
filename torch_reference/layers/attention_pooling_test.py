import numpy as np

from torch_reference.layers.attention_pooling import AttentionPooling


def test_each_history_by_hand_and_an_empty_one_is_zeros(planted_layer, items):
    pooling = planted_layer(AttentionPooling(4, "float64"))
    values, real = items()
    kernel, bias, vector = (pooling.parts[name][0].detach().numpy() for name in ("kernel", "bias", "vector"))
    found = pooling(values, real).detach().numpy()
    for row, (history, kept) in enumerate(zip(values.numpy(), real.numpy(), strict=True)):
        h = history[kept]
        shares = np.exp(np.tanh(h @ kernel + bias) @ vector)
        expected = (shares * h).sum(0) / shares.sum() if len(h) else np.zeros(4)
        np.testing.assert_allclose(found[row], expected, rtol=1e-12, atol=1e-14)


def test_padding_never_leaks(planted_layer, assert_padding_never_leaks):
    assert_padding_never_leaks(planted_layer(AttentionPooling(4, "float64")))
