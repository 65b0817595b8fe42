import math

import numpy as np
import pytest
import torch

from torch_reference.losses.softmax import softmax_cross_entropy
from torch_reference.negatives.masks import mask_accidental_hits, mask_disallowed, mask_known_positives

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
    mask_known_positives(logits, torch.tensor([1, 2, 3]), torch.arange(3), torch.tensor([0]), torch.tensor([2]))
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


def test_the_positive_may_stand_in_any_column():
    masked = mask_accidental_hits(torch.zeros(2, 4), torch.tensor([7, 4, 4, 7]), torch.tensor([3, 1]))
    assert masked.tolist() == [[GONE, 0, 0, 0], [0, 0, GONE, 0]]


def test_every_column_of_a_known_candidate_goes_and_the_positive_stays():
    rows, positives = torch.tensor([7, 4, 4, 7, 2]), torch.tensor([0, 1])
    places, known = torch.tensor([0, 0, 0, 1]), torch.tensor([7, 4, 9, 2])
    masked = mask_known_positives(torch.zeros(2, 5), rows, positives, places, known)
    assert masked.tolist() == [[0, GONE, GONE, GONE, 0], [0, 0, 0, 0, GONE]]


def test_without_pairs_or_hits_nothing_goes():
    logits, nobody = torch.randn(2, 3), torch.zeros(0, dtype=torch.int64)
    assert torch.equal(mask_known_positives(logits, torch.arange(3), torch.arange(2), nobody, nobody), logits)
    known = torch.tensor([0, 1])
    assert torch.equal(mask_known_positives(logits, torch.arange(3), torch.arange(2), known, known + 10), logits)


@pytest.mark.parametrize("seed", range(5))
def test_what_goes_is_what_comparing_everything_says(seed):
    generator = np.random.default_rng(seed)
    num_queries, num_columns = generator.integers(1, 9), generator.integers(9, 30)
    rows, positives = generator.integers(0, 6, num_columns), generator.permutation(num_columns)[:num_queries]
    likes = generator.uniform(size=(num_queries, 6)) < 0.3
    places, known = likes.nonzero()
    arguments = [torch.tensor(array) for array in (rows, positives, places, known)]
    logits = torch.zeros(num_queries, num_columns)
    is_positive = np.arange(num_columns) == positives[:, None]
    gone = mask_known_positives(logits, *arguments).numpy() == GONE
    np.testing.assert_array_equal(gone, likes[:, rows] & ~is_positive)
    gone = mask_accidental_hits(logits, *arguments[:2]).numpy() == GONE
    np.testing.assert_array_equal(gone, (rows == rows[positives][:, None]) & ~is_positive)


def test_masked_logits_get_no_gradient_whatever_they_are():
    logits = torch.tensor([[1.0, math.inf, math.nan], [0.0, 2.0, 1.0]], requires_grad=True)
    rows, places, known = torch.tensor([7, 4, 8]), torch.tensor([0, 0]), torch.tensor([4, 8])
    masked = mask_known_positives(logits, rows, torch.arange(2), places, known)
    softmax_cross_entropy(masked, torch.ones(2)).backward()
    assert logits.grad[0].tolist() == [0, 0, 0]
    assert logits.grad.isfinite().all()
