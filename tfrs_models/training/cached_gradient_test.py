import numpy as np
import pytest
import tensorflow as tf

from tfrs_models.training.cached_gradient import encode_in_chunks, gradient_in_blocks, pull_back

GENERATOR = np.random.default_rng(0)
TABLE = tf.Variable(GENERATOR.normal(size=(9, 3)))
KERNEL = tf.Variable(GENERATOR.normal(size=(3, 2)))
VARIABLES = {"table": TABLE, "kernel": KERNEL}
SPARSE = {"table": True, "kernel": False}
FEATURES = {"id": tf.constant([1, 4, 4, 0, 7, 1, 8]), "scale": tf.constant(GENERATOR.normal(size=7))}
SIZES = [1, 2, 3, 7, 100]


def _encode(features, number):
    del number
    rows = tf.gather(TABLE, features["id"])
    return [tf.tanh(rows @ KERNEL) * features["scale"][:, None], tf.reduce_sum(rows, axis=1)]


def _in_chunks(size, features=FEATURES, encode=_encode):
    return encode_in_chunks(encode, features, size, [[2], []], "float64")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("compiled", [False, True])
def test_chunks_encode_what_the_whole_does(size, compiled):
    found = (tf.function(_in_chunks) if compiled else _in_chunks)(size)
    for part, whole in zip(found, _encode(FEATURES, 0), strict=True):
        np.testing.assert_allclose(part, whole, rtol=1e-14)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("compiled", [False, True])
def test_chunks_pull_back_what_the_whole_does(size, compiled):
    upstream = [tf.constant(GENERATOR.normal(size=(7, 2))), tf.constant(GENERATOR.normal(size=7))]
    with tf.GradientTape() as tape:
        whole = _encode(FEATURES, 0)
    want = tape.gradient(whole, VARIABLES, output_gradients=upstream)

    def pull():
        return pull_back(_encode, FEATURES, upstream, VARIABLES, SPARSE, size)

    found = (tf.function(pull) if compiled else pull)()
    assert isinstance(found["table"], tf.IndexedSlices)
    assert found["table"].indices.dtype == tf.int32 and found["table"].dense_shape.numpy().tolist() == [9, 3]
    for name, gradient in found.items():
        dense, expected = tf.convert_to_tensor(gradient), tf.convert_to_tensor(want[name])
        np.testing.assert_allclose(dense, expected, rtol=1e-12)


def test_a_chunk_knows_its_number_and_both_passes_give_it_the_same():
    numbers = []

    def encode(features, number):
        numbers.append(int(number))
        return _encode(features, number)

    _in_chunks(3, encode=encode)
    pull_back(encode, FEATURES, [tf.zeros([7, 2], tf.float64), tf.zeros([7], tf.float64)], VARIABLES, SPARSE, 3)
    assert numbers == [0, 1, 2, 0, 1, 2]


def test_the_longest_array_of_the_encoder_is_a_chunk():
    lengths = []

    def encode(features, number):
        lengths.append(len(features["id"]))
        return _encode(features, number)

    _in_chunks(3, encode=encode)
    assert lengths == [3, 3, 1]


def test_nothing_to_encode():
    features = {name: values[:0] for name, values in FEATURES.items()}
    vectors, sums = _in_chunks(3, features)
    assert (vectors.shape, sums.shape, vectors.dtype) == ((0, 2), (0,), tf.float64)
    found = pull_back(_encode, features, [vectors, sums], VARIABLES, SPARSE, 3)
    assert not tf.convert_to_tensor(found["table"]).numpy().any() and not found["kernel"].numpy().any()


LEFT, RIGHT = tf.constant(GENERATOR.normal(size=(7, 4))), tf.constant(GENERATOR.normal(size=(5, 4)))
SCALE = tf.Variable(0.6, dtype=tf.float64)
WEIGHTS = tf.constant(GENERATOR.uniform(size=7))


def _loss(own, shared, first, end):
    logits = own["left"] @ tf.transpose(shared[0]) * SCALE
    return tf.reduce_sum(WEIGHTS[first:end] * tf.reduce_logsumexp(logits, axis=1))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("compiled", [False, True])
def test_blocks_of_rows_add_up_to_the_loss_and_its_gradients(size, compiled):
    with tf.GradientTape() as tape:
        tape.watch([LEFT, RIGHT])
        want = _loss({"left": LEFT}, [RIGHT], 0, 7)
    on_left, on_right, on_scale = tape.gradient(want, [LEFT, RIGHT, SCALE])

    def find():
        return gradient_in_blocks(_loss, {"left": LEFT}, [RIGHT], {"scale": SCALE}, size)

    loss, own, shared, variables = (tf.function(find) if compiled else find)()
    np.testing.assert_allclose(loss, want, rtol=1e-13)
    np.testing.assert_allclose(own["left"], on_left, rtol=1e-12)
    np.testing.assert_allclose(shared[0], on_right, rtol=1e-12)
    np.testing.assert_allclose(variables["scale"], on_scale, rtol=1e-12)


def test_what_the_loss_does_not_look_at_has_no_gradient():
    unused = tf.ones([7, 2, 3], tf.float64)
    _, own, _, variables = gradient_in_blocks(_loss, {"left": LEFT, "unused": unused}, [RIGHT], {"k": KERNEL}, 2)
    assert own["unused"].shape == (7, 2, 3)
    assert not own["unused"].numpy().any() and not variables["k"].numpy().any()


def test_no_array_of_all_rows_and_all_columns():
    """Of 400 rows and 300 columns, blocks of 10: the largest tensor of the compiled function is a block's."""
    left, right = tf.zeros([400, 4]), tf.zeros([300, 4])

    def loss(own, shared, first, end):
        return tf.reduce_sum(tf.reduce_logsumexp(own["left"] @ tf.transpose(shared[0]), axis=1))

    def find(size):
        return gradient_in_blocks(loss, {"left": left}, [right], {}, size)[0]

    def largest(size):
        graph = tf.function(find).get_concrete_function(size).graph
        bodies = [graph, *(function.graph for function in graph._functions.values() if hasattr(function, "graph"))]
        shapes = [out.shape for body in bodies for op in body.get_operations() for out in op.outputs]
        return {tuple(shape) for shape in shapes if shape.rank == 2 and shape[-1] == 300}

    # An open length would be a block's; the whole would be told by its number.
    assert (400, 300) not in largest(10)
    assert tf.function(lambda: loss({"left": left}, [right], 0, 400)).get_concrete_function().graph.as_graph_def()
