import numpy as np
import tensorflow as tf

from retrieval_contract.config import IdFeature, Tower
from tfrs_models.towers.mlp_tower import MlpTower

TABLE = np.asarray([[0, 0, 0], [3, 0, 4], [1, 2, 2]], np.float32)
ID = IdFeature(name="a", width=3)


def _tower(dim=3, normalize=False, **settings):
    tower = MlpTower(Tower(features=(ID,), **settings), {"a": 3}, dim, normalize)
    tower.features.tables["a"].assign(TABLE)
    return tower


def test_an_id_of_the_common_width_is_the_vector_itself():
    assert _tower()({"a": tf.constant([2, 1])}).numpy().tolist() == TABLE[[2, 1]].tolist()
    assert not _tower().dense.layers


def test_normalised_vectors_have_length_one():
    np.testing.assert_allclose(_tower(normalize=True)({"a": tf.constant([1])}), [[0.6, 0, 0.8]], rtol=1e-6)


def test_another_width_takes_one_linear_layer():
    tower = _tower(dim=2)
    (layer,) = tower.dense.layers
    layer.kernel.assign([[1, -1], [0, 0], [1, -1]])
    layer.bias.assign([0.5, 0])
    assert tower({"a": tf.constant([1])}).numpy().tolist() == [[7.5, -7]]


def test_hidden_layers_end_in_a_linear_one():
    tower = _tower(dim=2, hidden_dims=(4, 5))
    assert [tuple(layer.kernel.shape) for layer in tower.dense.layers] == [(3, 4), (4, 5), (5, 2)]


def test_feature_dropout_acts_in_training_only():
    tower, rows = _tower(feature_dropout=0.5), {"a": tf.fill([300], 2)}
    np.testing.assert_array_equal(tower(rows), TABLE[[2] * 300])
    dropped = tower(rows, dropout_seed=tf.constant([0, 1], tf.int64)).numpy()
    assert set(np.unique(dropped[:, 0])) == {0.0, 2.0}
    assert set(np.unique(dropped[:, 1])) == {0.0, 4.0}
