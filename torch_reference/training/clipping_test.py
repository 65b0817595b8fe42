import math

import pytest
import torch

from torch_reference.training.clipping import clip_by_global_norm, global_norm

DENSE = torch.tensor([[3.0, 0.0], [0.0, 4.0]])


def sparse(rows, values):
    return torch.sparse_coo_tensor(torch.tensor([rows]), torch.tensor(values), (100, 1)).coalesce()


def test_the_norm_is_of_all_parameters_together_with_duplicates_summed():
    assert global_norm({"a": DENSE}) == pytest.approx(5)
    assert global_norm({"a": DENSE, "b": sparse([7, 7], [[5.0], [7.0]])}) == pytest.approx(13)
    assert global_norm({"a": DENSE, "b": sparse([7, 8], [[5.0], [7.0]])}) != pytest.approx(13)


def test_a_longer_gradient_is_scaled_to_the_norm_and_a_shorter_one_left_alone():
    gradients = {"a": DENSE, "b": sparse([7], [[12.0]])}
    clipped, norm = clip_by_global_norm(gradients, 2.6)
    assert norm == pytest.approx(13)
    torch.testing.assert_close(clipped["a"], DENSE / 5)
    assert clipped["b"].values().tolist() == [[pytest.approx(2.4)]]
    assert global_norm(clipped) == pytest.approx(2.6)
    for clip_norm in (13.1, None):
        assert clip_by_global_norm(gradients, clip_norm) == (gradients, norm)


def test_nothing_has_norm_zero():
    assert global_norm({}) == 0
    empty = torch.sparse_coo_tensor(torch.zeros(1, 0, dtype=torch.int64), torch.zeros(0, 1), (100, 1)).coalesce()
    assert clip_by_global_norm({"a": empty, "b": torch.zeros(2)}, 1.0)[1] == 0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_norm_that_is_not_finite_is_told_and_scales_nothing(value):
    gradients = {"a": torch.tensor([1.0, value])}
    clipped, norm = clip_by_global_norm(gradients, 1.0)
    assert not math.isfinite(norm)
    assert clipped is gradients
