import numpy as np
import pytest

from retrieval_contract.errors import UserError
from tfrs_models.inputs import any_length, batch_tensors, choose_device, feature_tensors


def test_a_batch_arrives_unchanged(problem):
    batch = problem.batches[0]
    tensors = batch_tensors(batch)
    for field in ("query_rows", "candidate_rows", "log_q", "weights"):
        np.testing.assert_array_equal(tensors[field].numpy(), getattr(batch, field))
        assert tensors[field].dtype == getattr(batch, field).dtype
    assert tensors["query_features"]["history"].numpy().tobytes() == batch.query_features["history"].tobytes()


def test_a_float64_batch_has_float64_log_q_and_weights(problem):
    tensors = batch_tensors(problem.batches[0], "float64")
    assert (tensors["log_q"].dtype, tensors["weights"].dtype) == ("float64", "float64")
    assert tensors["query_rows"].dtype == "int32"


def test_fields_that_are_none_are_left_out(problem):
    assert not {"sampled", "impressions", "known_positives", "allowed"} & set(batch_tensors(problem.batches[0]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_source_of_negatives_arrives_unchanged(make_problem, dtype):
    drawn = {"sampled": 4, "impressions": 2, "mask_known_positives": True, "mask_not_yet_seen": True}
    batch = make_problem(negatives=drawn).batches[0]
    tensors = batch_tensors(batch, dtype)
    for name in ("sampled", "impressions"):
        bundle, found = getattr(batch, name), tensors[name]
        np.testing.assert_array_equal(found["rows"], bundle.rows)
        np.testing.assert_array_equal(found["log_q"], bundle.log_q)
        assert found["log_q"].dtype == dtype
        assert found["features"]["genres"].numpy().tobytes() == bundle.features["genres"].tobytes()
    np.testing.assert_array_equal(tensors["impressions"]["allowed"], batch.impressions.allowed)
    np.testing.assert_array_equal(tensors["known_positives"]["places"], batch.known_positives.places)
    np.testing.assert_array_equal(tensors["known_positives"]["rows"], batch.known_positives.rows)
    np.testing.assert_array_equal(tensors["allowed"], batch.allowed)


def test_features_keep_names_and_types(problem):
    features = problem.batches[0].query_features
    tensors = feature_tensors(features)
    assert {name: tensor.dtype.as_numpy_dtype for name, tensor in tensors.items()} == {
        name: values.dtype for name, values in features.items()
    }


def test_a_signature_leaves_every_length_open(problem):
    signature = any_length(feature_tensors(problem.batches[0].query_features))
    assert signature["history"].shape.as_list() == [None, None]
    assert signature["age"].dtype == "float32"


def test_cuda_without_a_gpu_is_the_users_mistake(monkeypatch):
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda kind: [])
    assert choose_device("auto") == choose_device("cpu") == "/CPU:0"
    with pytest.raises(UserError, match=r"TensorFlow sees no GPU.*--device"):
        choose_device("cuda")


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda kind: ["one"])
    assert (choose_device("auto"), choose_device("cuda"), choose_device("cpu")) == ("/GPU:0", "/GPU:0", "/CPU:0")
