import numpy as np
import tensorflow as tf

from tfrs_models.negatives.masks import mask_accidental_hits, mask_disallowed, mask_known_positives

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


ROWS = tf.constant([7, 5, 7, 3])
PAIRS = {"places_M": tf.constant([0, 0, 1, 2, 2, 3]), "rows_M": tf.constant([5, 7, 9, 3, 7, 5])}


def test_positives_may_stand_in_any_column():
    """Rows 2 and 3 of a batch of four: what another process sees of it."""
    masked = mask_accidental_hits(LOGITS[:2], ROWS, tf.constant([2, 3]))
    assert masked.numpy().tolist() == [[OUT, 1, 2, 3], [4, 5, 6, 7]]
    diagonal = mask_accidental_hits(LOGITS, ROWS, tf.range(4))
    np.testing.assert_array_equal(diagonal, mask_accidental_hits(LOGITS, ROWS))


def test_rows_with_columns_of_their_own():
    rows = tf.constant([[4, 4, 1], [1, 4, 1]])
    masked = mask_accidental_hits(LOGITS[:2, :3], rows, tf.constant([0, 2]))
    assert masked.numpy().tolist() == [[0, OUT, 2], [OUT, 5, 6]]


def test_known_positives_go_and_the_own_positive_stays():
    masked = mask_known_positives(LOGITS, ROWS, None, **PAIRS)
    assert masked.numpy().tolist() == [[0, OUT, OUT, 3], [4, 5, 6, 7], [OUT, 9, 10, OUT], [12, OUT, 14, 15]]


def test_known_positives_beside_positives_in_other_columns():
    masked = mask_known_positives(LOGITS, ROWS, tf.constant([1, 1, 3, 0]), **PAIRS)
    assert masked.numpy().tolist() == [[OUT, 1, OUT, 3], [4, 5, 6, 7], [OUT, 9, OUT, 11], [12, OUT, 14, 15]]


def test_known_positives_among_columns_of_a_rows_own():
    rows = tf.constant([[5, 9, 7], [9, 5, 9], [0, 0, 7], [7, 5, 5]])
    masked = mask_known_positives(LOGITS[:, :3], rows, tf.zeros([4], tf.int32), **PAIRS)
    assert masked.numpy().tolist() == [[0, 1, OUT], [4, 5, OUT], [8, 9, OUT], [12, OUT, OUT]]


def test_known_positives_equal_a_loop():
    generator = np.random.default_rng(0)
    rows, known = generator.integers(0, 12, 30, dtype=np.int32), generator.random((9, 15)) < 0.3
    own, logits = generator.integers(0, 30, 9, dtype=np.int32), generator.normal(size=(9, 30))
    places, candidates = (found.astype(np.int32) for found in known.nonzero())
    masked = mask_known_positives(*map(tf.constant, (logits, rows, own, places, candidates))).numpy()
    for i in range(9):
        for j in range(30):
            assert masked[i, j] == (OUT if known[i, rows[j]] and j != own[i] else logits[i, j])


def test_nobody_known_and_no_columns_change_nothing():
    nobody = {"places_M": tf.zeros([0], tf.int32), "rows_M": tf.zeros([0], tf.int32)}
    np.testing.assert_array_equal(mask_known_positives(LOGITS, ROWS, None, **nobody), LOGITS)
    own = tf.zeros([4, 1], tf.int32)
    np.testing.assert_array_equal(mask_known_positives(LOGITS[:, :1], own, 0 * ROWS, **nobody), LOGITS[:, :1])


def test_known_positives_get_no_gradient():
    with tf.GradientTape() as tape:
        tape.watch(LOGITS)
        total = tf.reduce_sum(tf.nn.softmax(mask_known_positives(LOGITS, ROWS, None, **PAIRS))[:, 0])
    gradient = tape.gradient(total, LOGITS).numpy()
    assert np.isfinite(gradient).all()
    assert gradient[0, 1] == gradient[2, 3] == 0 and gradient[0, 3] != 0
