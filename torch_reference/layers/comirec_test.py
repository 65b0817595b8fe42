import numpy as np

from torch_reference.layers.comirec import ComiRecPooling


def test_each_history_by_hand_and_an_empty_one_is_zeros(planted_layer, items):
    pooling = planted_layer(ComiRecPooling(4, 5, 2, 3, "float64"))
    position, kernel_1, kernel_2 = (part.detach().numpy() for part, _ in pooling.parts.values())
    values, real = items()
    found = pooling(values, real).detach().numpy()
    for row, (history, kept) in enumerate(zip(values.numpy(), real.numpy(), strict=True)):
        h = history[kept]
        shares = np.exp(np.tanh((h + position[: len(h)][::-1]) @ kernel_1) @ kernel_2)
        expected = (shares / shares.sum(0)).T @ h if len(h) else np.zeros((2, 4))
        np.testing.assert_allclose(found[row], expected, rtol=1e-12, atol=1e-14)


def test_padding_never_leaks(planted_layer, assert_padding_never_leaks):
    assert_padding_never_leaks(planted_layer(ComiRecPooling(4, 5, 2, 3, "float64")))
