import warnings

import numpy as np
import pytest
import torch

from retrieval_contract.errors import UserError
from torch_reference.inputs import batch_tensors, choose_device, feature_tensors


def test_rows_become_int64_and_numbers_the_asked_dtype(make_example):
    batch = make_example().batch(0)
    tensors = batch_tensors(batch, "float64")
    assert tensors["query_features"]["history"].dtype == torch.int64
    assert tensors["candidate_rows"].dtype == torch.int64
    assert {tensors[name].dtype for name in ("log_q", "weights")} == {torch.float64}
    assert tensors["query_features"]["age"].dtype == torch.float64
    for name, array in batch.query_features.items():
        np.testing.assert_array_equal(tensors["query_features"][name].numpy(), array)
    np.testing.assert_array_equal(tensors["log_q"].numpy(), batch.log_q)


def test_read_only_arrays_are_copied_without_a_warning():
    array = np.arange(3.0, dtype=np.float32)
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = feature_tensors({"age": array})["age"]
    tensor += 1
    assert array.tolist() == [0, 1, 2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_the_users_mistake():
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="torch sees no GPU"):
        choose_device("cuda")


def test_optional_fields_are_carried_where_they_are_and_absent_where_not(make_example):
    example = make_example()
    plain, batch = batch_tensors(example.batch(0)), example.rich_batch(0)
    assert not {"sampled", "impressions", "known_positives", "allowed"} & set(plain)
    tensors = batch_tensors(batch, "float64")
    assert tensors["allowed"].dtype == tensors["impressions"]["allowed"].dtype == torch.bool
    assert tensors["sampled"]["log_q"].dtype == tensors["impressions"]["log_q"].dtype == torch.float64
    assert tensors["known_positives"]["places"].dtype == tensors["sampled"]["rows"].dtype == torch.int64
    for name in ("sampled", "impressions", "known_positives"):
        bundle = getattr(batch, name)
        for field, tensor in tensors[name].items():
            array = getattr(bundle, field)
            parts = array.items() if field == "features" else [(field, array)]
            for key, values in parts:
                found = tensor[key] if field == "features" else tensor
                np.testing.assert_array_equal(found.numpy(), values)
    np.testing.assert_array_equal(tensors["allowed"].numpy(), batch.allowed)
