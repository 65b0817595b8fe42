import numpy as np
import pytest
import tensorflow as tf

from tfrs_models.training.clipping import add_up, clip_by_global_norm, over_replicas, scaled, sum_duplicates

DENSE = tf.constant([3.0, 0.0])
TABLE = tf.IndexedSlices(tf.constant([[1.0], [5.0], [3.0]]), tf.constant([7, 2, 7]), tf.constant([9, 1]))


def test_equal_rows_are_summed():
    summed = sum_duplicates(TABLE)
    assert summed.indices.numpy().tolist() == [7, 2]
    assert summed.values.numpy().tolist() == [[4], [5]]
    np.testing.assert_array_equal(tf.convert_to_tensor(summed), tf.convert_to_tensor(TABLE))


def test_a_dense_gradient_is_left_alone():
    assert sum_duplicates(DENSE) is DENSE


def test_no_row_at_all():
    empty = sum_duplicates(tf.IndexedSlices(tf.zeros([0, 4]), tf.zeros([0], tf.int32), tf.constant([9, 4])))
    assert empty.values.shape == (0, 4)


def test_the_norm_comes_after_duplicates_are_summed():
    _, norm = clip_by_global_norm({"a": DENSE, "b": TABLE}, None)
    np.testing.assert_allclose(norm, np.sqrt(3**2 + 4**2 + 5**2), rtol=1e-6)
    assert abs(norm - tf.linalg.global_norm([DENSE, TABLE])) > 0.3


@pytest.mark.parametrize(("clip_norm", "scale"), [(1.0, 1 / np.sqrt(50)), (50.0, 1.0), (None, 1.0)])
def test_all_are_scaled_together_and_only_down(clip_norm, scale):
    clipped, norm = clip_by_global_norm({"a": DENSE, "b": TABLE}, clip_norm)
    np.testing.assert_allclose(norm, np.sqrt(50), rtol=1e-6)
    np.testing.assert_allclose(clipped["a"], [3 * scale, 0], rtol=1e-6)
    np.testing.assert_allclose(clipped["b"].values, [[4 * scale], [5 * scale]], rtol=1e-6)


def test_a_gradient_of_zero_stays_zero():
    clipped, norm = clip_by_global_norm({"a": 0 * DENSE}, 1.0)
    assert (float(norm), clipped["a"].numpy().tolist()) == (0, [0, 0])


def test_gradients_of_one_parameter_add_up():
    assert add_up([DENSE]) is DENSE
    assert add_up([DENSE, 2 * DENSE, DENSE]).numpy().tolist() == [12, 0]
    both = add_up([TABLE, tf.IndexedSlices(tf.constant([[10.0]]), tf.constant([2]), tf.constant([9, 1]))])
    assert both.indices.numpy().tolist() == [7, 2, 7, 2]
    assert tf.convert_to_tensor(both).numpy()[:, 0].tolist() == [0, 0, 15, 0, 0, 0, 0, 4, 0]


def test_a_scaled_table_stays_sparse():
    half = scaled(TABLE, 0.5)
    assert isinstance(half, tf.IndexedSlices) and half.values.numpy().tolist() == [[0.5], [2.5], [1.5]]


def test_of_one_process_the_gradients_are_its_own():
    gradients = {"a": DENSE, "b": TABLE}
    assert over_replicas(gradients) is gradients
