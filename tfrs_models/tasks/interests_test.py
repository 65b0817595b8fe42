import numpy as np
import pytest
import tensorflow as tf

from tfrs_models.tasks.interests import attend_label, choose_interest

GENERATOR = np.random.default_rng(0)
INTERESTS, POSITIVE = GENERATOR.normal(size=(4, 3, 5)), GENERATOR.normal(size=(4, 5))


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_label_aware_attention_by_hand(power):
    want = []
    for interests, positive in zip(INTERESTS, POSITIVE, strict=True):
        scores = np.asarray([k @ positive for k in interests])
        exp = np.exp(np.sign(scores) * np.abs(scores) ** power)
        want.append(sum(e / exp.sum() * k for e, k in zip(exp, interests, strict=True)))
    np.testing.assert_allclose(attend_label(tf.constant(INTERESTS), tf.constant(POSITIVE), power), want, rtol=1e-12)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_a_score_of_zero_is_finite(power):
    interests, positive = tf.constant(INTERESTS), tf.zeros([4, 5], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch([interests, positive])
        chosen = attend_label(interests, positive, power)
    np.testing.assert_allclose(chosen, INTERESTS.mean(axis=1), rtol=1e-12)
    for gradient in tape.gradient(chosen, [interests, positive]):
        assert np.isfinite(gradient).all()


def test_the_gradient_of_attention_passes_to_the_positive():
    positive, direction = tf.constant(POSITIVE), np.random.default_rng(1).normal(size=(4, 5))
    with tf.GradientTape() as tape:
        tape.watch(positive)
        total = tf.reduce_sum(attend_label(tf.constant(INTERESTS), positive, 0.7) ** 2)
    ends = [
        np.sum(attend_label(tf.constant(INTERESTS), tf.constant(POSITIVE + h * direction), 0.7).numpy() ** 2)
        for h in (1e-6, -1e-6)
    ]
    along = (tape.gradient(total, positive).numpy() * direction).sum()
    np.testing.assert_allclose(along, (ends[0] - ends[1]) / 2e-6, rtol=1e-7)


def test_the_largest_is_chosen_and_alone_learns():
    interests, positive = tf.constant(INTERESTS), tf.constant(POSITIVE)
    best = np.einsum("bid,bd->bi", INTERESTS, POSITIVE).argmax(axis=1)
    with tf.GradientTape() as tape:
        tape.watch([interests, positive])
        chosen = choose_interest(interests, positive)
    np.testing.assert_array_equal(chosen, INTERESTS[np.arange(4), best])
    gradient = tape.gradient(chosen, interests).numpy()
    assert gradient.sum(axis=2).tolist() == (5.0 * (np.arange(3) == best[:, None])).tolist()


def test_of_equal_ones_the_first_is_chosen():
    interests = tf.constant([[[1.0, 0], [0, 1], [0, 1]], [[0, 1], [1, 0], [0, 1]]])
    chosen = choose_interest(interests, tf.constant([[1.0, 1], [0, 1]]))
    assert chosen.numpy().tolist() == [[1, 0], [0, 1]]
