import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from retrieval_contract.config import Loss, Negatives
from torch_reference.callables import loss_and_gradients
from torch_reference.inputs import batch_tensors, feature_tensors
from torch_reference.negatives.columns import Columns
from torch_reference.training.cached_gradient import backward, no_draws
from torch_reference.training.model import RetrievalModel
from torch_reference.weights import assign, extract_gradients

LOSSES = {
    "softmax": Loss(temperature=0.5, learn_temperature=True),
    "refined": Loss(temperature=0.5, log_q="refined"),
    "bpr": Loss(kind="bpr", log_q="none"),
    "sigmoid": Loss(kind="sigmoid", log_q="none", sigmoid_bias=-1.0, learn_temperature=True),
    "gbce": Loss(kind="gbce", log_q="none"),
}


def one_shot_and_chunks(make_example, chunk_size, **settings):
    whole, chunked = (make_example(chunk_size=size, **settings) for size in (None, chunk_size))
    batch, bank = whole.rich_batch(0), whole.bank(0)
    return [
        loss_and_gradients(
            each.config, each.sizes, each.weights, batch, dtype="float64", catalogue=each.catalogue, bank=bank
        )
        for each in (whole, chunked)
    ]


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("chunk_size", [1, 3, 8])
def test_chunks_give_the_gradient_of_one_shot(make_example, kind, chunk_size):
    whole, chunked = one_shot_and_chunks(make_example, chunk_size, loss=LOSSES[kind])
    assert chunked[0] == pytest.approx(whole[0], rel=1e-12)
    assert set(chunked[1]) == set(whole[1])
    for name, gradient in whole[1].items():
        assert abs(gradient).max() > 1e-6, name
        torch.testing.assert_close(*map(torch.tensor, (chunked[1][name], gradient)), rtol=1e-10, atol=1e-14)


def test_chunks_with_the_hardest_negatives_and_without_a_bias(make_example):
    settings = {"negatives": Negatives(hardest=2), "candidate_bias": False}
    whole, chunked = one_shot_and_chunks(make_example, 3, **settings)
    for name, gradient in whole[1].items():
        torch.testing.assert_close(*map(torch.tensor, (chunked[1][name], gradient)), rtol=1e-10, atol=1e-14)


def test_negatives_of_the_chunk_alone_would_be_noticed(make_example):
    example = make_example()
    batch = example.batch(0)
    whole = loss_and_gradients(example.config, example.sizes, example.weights, batch, dtype="float64")[0]
    halves = []
    for half in (slice(0, 4), slice(4, 8)):
        part = batch_tensors(batch, "float64")
        part = {
            name: {key: array[half] for key, array in value.items()} if isinstance(value, dict) else value[half]
            for name, value in part.items()
        }
        halves.append(model_of(example, "float64").compute_loss(part).item() * part["weights"].sum().item())
    assert sum(halves) / batch.weights.sum() < 0.9 * whole


def model_of(example, dtype="float32"):
    catalogue = feature_tensors(example.catalogue, dtype=dtype)
    model = RetrievalModel(example.config, example.sizes, dtype, catalogue).to(getattr(torch, dtype))
    assign(model.towers, example.weights)
    return model


class Seeded:
    """Draws that count who asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, side=None, chunk=0):
        self.asked.append((side, chunk))
        return torch.Generator().manual_seed(2 * chunk + (side == "query"))


def test_both_encodings_of_a_chunk_draw_the_same_dropout(make_example):
    example = make_example(dropout=0.4)
    batch, draws, chunk = batch_tensors(example.rich_batch(0), "float64"), Seeded(), 3
    model = model_of(example, "float64").train()
    loss, positives = backward(model, batch, bank=None, draws=draws, chunk_size=chunk)
    num_chunks = {"query": 3, "candidate": -(-(8 + 5 + 24) // 3)}
    each = [(side, place) for side, number in num_chunks.items() for place in range(number)]
    assert draws.asked == each + each
    gradients = extract_gradients(model.towers)

    # The same draws with one graph over everything.
    model.zero_grad()
    features = model.candidate_features(batch)
    towers, rebuilt = model.towers, {"query": [], "candidate": []}
    for side, encode, values in (
        ("query", towers.encode_query, batch["query_features"]),
        ("candidate", towers.encode_candidate, features),
    ):
        for place in range(num_chunks[side]):
            part = {name: value[place * chunk : (place + 1) * chunk] for name, value in values.items()}
            rebuilt[side].append(encode(part, draws(side, place)))
    encoded = type(model.encode(batch))(
        torch.cat(rebuilt["query"]), torch.cat(rebuilt["candidate"]), towers.candidate_bias(features)
    )
    scored = model.score(batch, encoded)
    again = model.loss_of(scored.rows, scored.columns, None, batch["weights"].sum())
    again.backward()
    assert again.item() == pytest.approx(loss.item(), rel=1e-12)
    torch.testing.assert_close(positives.vectors_ND, scored.positives.vectors_ND, rtol=1e-12, atol=1e-14)
    for name, gradient in extract_gradients(model.towers).items():
        torch.testing.assert_close(*map(torch.tensor, (gradients[name], gradient)), rtol=1e-9, atol=1e-14)


def test_the_scale_is_on_the_gradient_alone(make_example):
    for chunk_size in (None, 3):
        example = make_example()
        results = []
        for scale in (1.0, 0.25):
            model = model_of(example, "float64").eval()
            batch = batch_tensors(example.batch(0), "float64")
            loss, _ = backward(model, batch, bank=None, draws=no_draws, chunk_size=chunk_size, scale=scale)
            results.append((loss.item(), extract_gradients(model.towers)))
        assert results[0][0] == results[1][0]
        for name, gradient in results[0][1].items():
            torch.testing.assert_close(*map(torch.tensor, (results[1][1][name], gradient / 4)), rtol=1e-12, atol=0)


class Largest(TorchDispatchMode):
    """Numbers in the largest result."""

    numbers = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor) and not tensor.is_sparse:
                self.numbers = max(self.numbers, tensor.numel())
        return result


def test_no_array_of_all_rows_by_all_columns_exists(make_example):
    example, num_rows, num_bank = make_example(), 512, 100
    batch = batch_tensors(example.batch(0))
    repeat = num_rows // len(batch["weights"])
    batch = {
        name: {key: array.repeat(repeat, *[1] * (array.ndim - 1)) for key, array in value.items()}
        if isinstance(value, dict)
        else value.repeat(repeat)
        for name, value in batch.items()
    }
    bank = Columns(torch.randn(num_bank, 5), torch.arange(num_bank), torch.zeros(num_bank), torch.zeros(num_bank))
    sizes = {}
    for chunk_size in (None, 16):
        with Largest() as largest:
            backward(model_of(example), batch, bank=bank, draws=no_draws, chunk_size=chunk_size)
        sizes[chunk_size] = largest.numbers
    assert sizes[16] <= 16 * (num_rows + num_bank)
    assert sizes[None] >= num_rows * num_rows
