import numpy as np
import tensorflow as tf

from tfrs_models.negatives.masks import mask_accidental_hits, mask_disallowed

LOGITS = tf.reshape(tf.range(16.0), [4, 4])
OUT = -np.inf


def test_copies_of_the_positive_go_and_the_positive_stays():
    masked = mask_accidental_hits(LOGITS, tf.constant([7, 5, 7, 7]))
    assert masked.numpy().tolist() == [[0, 1, OUT, OUT], [4, 5, 6, 7], [OUT, 9, 10, OUT], [OUT, 13, OUT, 15]]


def test_distinct_candidates_stay():
    np.testing.assert_array_equal(mask_accidental_hits(LOGITS, tf.constant([3, 1, 2, 0])), LOGITS)


def test_row_zero_is_a_candidate_like_any_other():
    assert mask_accidental_hits(LOGITS, tf.constant([0, 0, 1, 2])).numpy()[0].tolist() == [0, OUT, 2, 3]


def test_what_is_not_allowed_goes():
    allowed = tf.constant([[True, False], [True, True]])
    assert mask_disallowed(tf.constant([[1.0, 2.0], [3.0, 4.0]]), allowed).numpy().tolist() == [[1, OUT], [3, 4]]


def test_masked_places_get_no_gradient():
    with tf.GradientTape() as tape:
        tape.watch(LOGITS)
        masked = mask_accidental_hits(LOGITS, tf.constant([7, 5, 7, 1]))
        total = tf.reduce_sum(tf.nn.softmax(masked) * tf.reshape(tf.range(16.0), [4, 4]))
    gradient = tape.gradient(total, LOGITS).numpy()
    assert np.isfinite(gradient).all()
    assert gradient[0, 2] == gradient[2, 0] == 0
    assert (gradient[0, [0, 1, 3]] != 0).all()


def test_a_masked_nan_is_gone():
    logits = tf.constant([[1.0, float("nan")], [2.0, 3.0]])
    assert mask_accidental_hits(logits, tf.constant([4, 4])).numpy().tolist() == [[1, OUT], [OUT, 3]]
