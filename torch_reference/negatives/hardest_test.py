import math

import pytest
import torch

from torch_reference.negatives.hardest import keep_hardest

GONE = -math.inf
POSITIVES = torch.tensor([0, 2])


def test_the_largest_negatives_and_the_positive_stay():
    logits = torch.tensor([[-9.0, 3.0, 1.0, 2.0], [4.0, 1.0, 9.0, 5.0]])
    assert keep_hardest(logits, POSITIVES, 2).tolist() == [[-9, 3, GONE, 2], [4, GONE, 9, 5]]
    assert keep_hardest(logits, POSITIVES, 1).tolist() == [[-9, 3, GONE, GONE], [GONE, GONE, 9, 5]]
    assert logits[0, 2] == 1


def test_the_positive_is_none_of_the_k_however_large():
    logits = torch.tensor([[9.0, 3.0, 1.0, 2.0]])
    assert keep_hardest(logits, POSITIVES[:1], 1).tolist() == [[9, 3, GONE, GONE]]


def test_where_no_more_remain_nothing_changes():
    logits = torch.tensor([[1.0, 3.0, GONE, 2.0], [GONE, GONE, 9.0, GONE]])
    for number in (2, 3, 4, 100):
        assert torch.equal(keep_hardest(logits, POSITIVES, number), logits)
    assert keep_hardest(logits, POSITIVES, 1).tolist() == [[1, 3, GONE, GONE], [GONE, GONE, 9, GONE]]
    alone = torch.tensor([[1.0], [2.0]])
    assert torch.equal(keep_hardest(alone, 0 * POSITIVES, 1), alone)


def test_of_equal_logits_the_earlier_columns_stay():
    logits = torch.tensor([[0.0, 2.0, 2.0, 3.0, 2.0], [5.0, 5.0, 0.0, 5.0, 5.0]])
    assert keep_hardest(logits, POSITIVES, 2).tolist() == [[0, 2, GONE, 3, GONE], [5, 5, 0, GONE, GONE]]
    assert keep_hardest(logits, POSITIVES, 3).tolist() == [[0, 2, 2, 3, GONE], [5, 5, 0, 5, GONE]]


@pytest.mark.parametrize("number", [1, 2, 5, 9])
def test_exactly_k_stay_in_every_row(number):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randint(0, 4, (20, 12), generator=generator).double()
    positives = torch.randint(0, 12, (20,), generator=generator)
    kept = keep_hardest(logits, positives, number) > GONE
    assert (kept.sum(dim=1) == number + 1).all()
    assert kept.gather(1, positives[:, None]).all()


def test_only_what_stays_gets_a_gradient():
    logits = torch.tensor([[-9.0, 3.0, 1.0, 2.0], [4.0, 1.0, 9.0, 5.0]], dtype=torch.float64, requires_grad=True)
    keep_hardest(logits, POSITIVES, 1).logsumexp(dim=1).sum().backward()
    assert (logits.grad != 0).tolist() == [[True, True, False, False], [False, False, True, True]]
    assert torch.autograd.gradcheck(
        lambda x: keep_hardest(x, POSITIVES, 2).logsumexp(dim=1), logits.detach().clone().requires_grad_()
    )
