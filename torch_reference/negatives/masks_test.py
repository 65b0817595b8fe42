import math

import torch

from torch_reference.losses.softmax import softmax_cross_entropy
from torch_reference.negatives.masks import mask_accidental_hits, mask_disallowed

GONE = -math.inf


def test_other_copies_of_the_positive_go_and_its_own_column_stays():
    masked = mask_accidental_hits(torch.zeros(3, 3), torch.tensor([7, 4, 7]))
    assert masked.tolist() == [[0, 0, GONE], [0, 0, 0], [GONE, 0, 0]]


def test_columns_beyond_the_batch_are_compared_too():
    masked = mask_accidental_hits(torch.zeros(2, 4), torch.tensor([7, 4, 4, 7]))
    assert masked.tolist() == [[0, 0, 0, GONE], [0, 0, GONE, 0]]


def test_distinct_candidates_lose_nothing_and_inputs_are_not_written():
    logits = torch.randn(3, 3)
    kept = logits.clone()
    assert torch.equal(mask_accidental_hits(logits, torch.tensor([1, 2, 3])), kept)
    mask_accidental_hits(logits, torch.tensor([1, 1, 1]))
    mask_disallowed(logits, torch.eye(3, dtype=torch.bool))
    assert torch.equal(logits, kept)


def test_true_is_allowed():
    masked = mask_disallowed(torch.ones(2, 2), torch.tensor([[True, False], [True, True]]))
    assert masked.tolist() == [[1, GONE], [1, 1]]


def test_a_masked_column_gets_no_gradient_and_a_multiplied_mask_is_noticed():
    logits = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    rows = torch.tensor([7, 4, 7])
    loss = softmax_cross_entropy(mask_accidental_hits(logits, rows), torch.ones(3, dtype=torch.float64))
    loss.backward()
    assert logits.grad[0, 2] == logits.grad[2, 0] == 0
    multiplied = logits * torch.tensor([[1, 1, 0], [1, 1, 1], [0, 1, 1]])
    assert not torch.isclose(softmax_cross_entropy(multiplied, torch.ones(3, dtype=torch.float64)), loss)
