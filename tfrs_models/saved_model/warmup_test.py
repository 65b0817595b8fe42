import numpy as np
import pytest
import tensorflow as tf

from tfrs_models.saved_model.warmup import FILE, write_warmup

logs = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2", reason="tensorflow-serving-api is not here")

REQUESTS = {
    "serving_default": {"k": tf.constant(10), "query_id": tf.constant([b"\xff"]), "age": tf.constant([np.nan])},
    "search": {"vectors": tf.zeros([1, 200]), "list": tf.zeros([1, 0], tf.string)},
}


def test_the_packages_own_messages_read_what_is_written(tmp_path):
    write_warmup(tmp_path, REQUESTS)
    records = [record.numpy() for record in tf.data.TFRecordDataset(str(tmp_path / FILE))]
    assert len(records) == len(REQUESTS)
    for record, (signature, inputs) in zip(records, REQUESTS.items(), strict=True):
        log = logs.PredictionLog.FromString(record)
        request = log.predict_log.request
        assert request.model_spec.signature_name == signature
        assert set(request.inputs) == set(inputs)
        for name, value in inputs.items():
            np.testing.assert_array_equal(tf.make_ndarray(request.inputs[name]), value)
            assert request.inputs[name].dtype == value.dtype.as_datatype_enum
        log.DiscardUnknownFields()
        assert log.ByteSize() == len(record), "every byte is a field that the package knows"
