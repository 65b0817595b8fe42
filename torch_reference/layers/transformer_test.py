import math

import numpy as np
import pytest
import torch

from retrieval_contract import config
from torch_reference.layers.transformer import TransformerPooling


def built(planted_layer, dropout=0.0, dtype="float64", **settings):
    pooling = config.TransformerPooling(num_heads=2, feed_forward_dim=3, dropout=dropout, **settings)
    return planted_layer(TransformerPooling(4, 5, pooling, dtype))


def norm(x, parts, name):
    scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return scaled * parts[f"{name}.scale"] + parts[f"{name}.offset"]


def dense(x, parts, name):
    return x @ parts[f"{name}.kernel"] + parts[f"{name}.bias"]


def by_hand(h, parts, num_blocks):
    """Places of one history without padding, one query and one head at a time."""
    x = h + parts["position"][: len(h)][::-1]
    for number in range(num_blocks):
        name = f"block.{number}."
        q, k, v = (dense(norm(x, parts, name + "norm_1"), parts, name + part) for part in ("query", "key", "value"))
        attended = np.zeros_like(x)
        for place in range(len(h)):
            for head in (slice(0, 2), slice(2, 4)):
                shares = np.exp(k[: place + 1, head] @ q[place, head] / math.sqrt(2))
                attended[place, head] = shares @ v[: place + 1, head] / shares.sum()
        x = x + dense(attended, parts, name + "output")
        hidden = dense(norm(x, parts, name + "norm_2"), parts, name + "feed_forward.0")
        x = x + dense(np.tanh(hidden), parts, name + "feed_forward.1")
    return norm(x, parts, "norm")


@pytest.mark.parametrize("num_blocks", [1, 2])
def test_places_by_hand_and_the_last_item_counts(planted_layer, items, num_blocks):
    pooling, (values, real) = built(planted_layer, num_blocks=num_blocks, activation="tanh"), items()
    parts = {name: (x.T if transposed else x).detach().numpy() for name, (x, transposed) in pooling.parts.items()}
    places, pooled = (f(values, real).detach().numpy() for f in (pooling.places, pooling))
    for row, (history, kept) in enumerate(zip(values.numpy(), real.numpy(), strict=True)):
        h = history[kept]
        expected = by_hand(h, parts, num_blocks) if len(h) else np.zeros((1, 4))
        np.testing.assert_allclose(places[row, : len(h)], expected[: len(h)], rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(pooled[row], expected[-1], rtol=1e-11, atol=1e-13)


def test_padding_never_leaks(planted_layer, assert_padding_never_leaks):
    assert_padding_never_leaks(built(planted_layer))


def test_a_place_sees_no_later_item_and_an_acausal_one_would_be_noticed(planted_layer, items):
    pooling, (values, _) = built(planted_layer), items()
    real = torch.ones(len(values), 5, dtype=torch.bool)
    later = values.clone()
    later[:, 3:] *= -2
    before, after = pooling.places(values, real), pooling.places(later, real)
    torch.testing.assert_close(after[:, :3], before[:, :3], rtol=1e-14, atol=1e-14)
    assert not torch.allclose(after[:, 3:], before[:, 3:])


def test_dropout_is_a_function_of_the_generator(planted_layer, items):
    pooling, (values, real) = built(planted_layer, dropout=0.5).train(), items()
    first, same, other = (pooling.places(values, real, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    pooling.eval()
    assert torch.equal(pooling.places(values, real, torch.Generator()), pooling.places(values, real))


def test_attention_with_dropout_is_attention_where_nothing_is_dropped(planted_layer, items, monkeypatch):
    pooling, (values, real) = built(planted_layer, dropout=0.5).train(), items()

    def all_kept(self, shape, device, generator=None):
        return torch.full(shape, 1, dtype=torch.int16)

    monkeypatch.setattr("torch_reference.layers.dropout.BulkDropout.kept", all_kept)
    monkeypatch.setattr("torch_reference.layers.dropout.BulkDropout.scale", 1.0)
    monkeypatch.setattr("torch_reference.layers.transformer._BLOCK_BYTES", 1000)  # several blocks, the last one short
    gradients = []
    for training in (True, False):
        values = values.detach().requires_grad_()
        places = pooling.train(training).places(values, real)
        pooling.zero_grad()
        (places.square() * torch.arange(1.0, 5.0, dtype=torch.float64)).sum().backward()
        gradients.append([places.detach(), values.grad, *(p.grad.clone() for p in pooling.parameters())])
    for ours, torchs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-10, atol=1e-12)


def test_attention_drops_what_it_is_told_to_and_its_gradient_is_right():
    from torch_reference.layers.transformer import _DroppedAttention

    heads = [torch.randn(3, 2, 4, 2, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    kept = (torch.rand(3, 2, 4, 4) > 0.3).to(torch.int16)
    later = torch.full((4, 4), -math.inf, dtype=torch.float64).triu(1)
    shares = (heads[0] @ heads[1].mT / math.sqrt(2) + later).softmax(3)
    torch.testing.assert_close(_DroppedAttention.apply(*heads, kept, 1.5), (shares * kept * 1.5) @ heads[2])
    assert torch.autograd.gradcheck(lambda *x: _DroppedAttention.apply(*x, kept, 1.5), heads)


def test_float32_is_close_to_float64(planted_layer, items):
    values, real = items()
    wide, narrow = (built(planted_layer, dtype=dtype) for dtype in ("float64", "float32"))
    torch.testing.assert_close(narrow(values.float(), real).double(), wide(values, real), rtol=1e-4, atol=1e-5)
