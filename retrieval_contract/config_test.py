"""The configuration refuses what it does not know, names the nearest key, and survives its own file."""

import numpy as np
import pytest
import yaml

from retrieval_contract.config import (
    CategoricalFeature,
    IdFeature,
    Loss,
    Mined,
    NumericFeature,
    Optimizer,
    RunConfig,
    SplitRule,
    Tower,
)
from retrieval_contract.config_text import config_from_tree, read_config, with_settings
from retrieval_contract.errors import UserError
from retrieval_contract.presets import PRESETS, preset


@pytest.fixture
def config() -> RunConfig:
    return preset("simulated")


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_survives_its_own_file(name, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(preset(name).to_yaml())
    assert read_config(path) == preset(name)
    assert read_config(path).digest() == preset(name).digest()


def test_a_number_may_be_written_with_an_exponent(config, tmp_path):
    assert with_settings(config, ["optimizer.learning_rate=1e-3"]).optimizer.learning_rate == 1e-3
    path = tmp_path / "f.yaml"
    path.write_text(config.to_yaml().replace("epsilon: 1.0e-08", "epsilon: 2E-8"))
    assert read_config(path).optimizer.epsilon == 2e-8
    with pytest.raises(UserError, match="valid number"):
        with_settings(config, ["optimizer.learning_rate=1e-3x"])


def test_settings_reach_every_depth(config):
    changed = with_settings(
        config, ["loss.temperature=0.05", "query.hidden_dims=[512,256]", "query.features.0.width=16"]
    )
    assert changed.loss.temperature == 0.05
    assert changed.query.hidden_dims == (512, 256)
    assert changed.query.layer_dims(changed.model.dim) == ((16, 512), (512, 256), (256, 32))


def test_a_step_may_be_called_as_the_last_one(config):
    text = "query.features=[{name: a, kind: text, ngrams: [1, 2]}, {name: b, kind: id}]"
    changed = with_settings(config, [text, "query.features.0.ngrams.0=3"])
    assert [feature.name for feature in changed.query.features] == ["a", "b"]
    assert changed.query.features[0].ngrams == (3, 2)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("loss.temprature=1", "did you mean 'temperature'"),
        ("los.temperature=1", "did you mean 'loss'"),
        ("loss.temperature=warm", "loss.temperature"),
        ("loss.temperature=0", "greater than 0"),
        ("loss.temperature=.nan", "finite"),
        ("loss.temperature=.inf", "finite"),
        ("training.epochs=1.5", "integer"),
        ("training.epochs=true", "integer"),
        ("training.batch_size=1", "greater than or equal to 2"),
        ("query.hidden_dims=512", "array"),
        ("query.features.7.width=3", "unknown key"),
        ("loss", "PATH=VALUE"),
        ("loss.log_q=exactly", "'none', 'exact', 'streaming' or 'refined'"),
        ("loss.temperature=-0.1", "greater than 0"),
        ("loss.kind=sotfmax", "'softmax', 'full_softmax', 'bpr'"),
        ("loss.margin=-1", "greater than or equal to 0"),
        ("loss.gbce_t=1.5", "less than or equal to 1"),
        ("loss.sigmoid_bias=.nan", "finite"),
        ("loss.temperature_range=[0,1]", "greater than 0"),
        ("loss.temperature_range=[0.5,0.5]", "temperature_range must rise; got 0.5 to 0.5"),
        ("loss.streaming.rate=0", "greater than 0"),
        ("loss.streaming.rate=1", "less than 1"),
        ("loss.streaming.num_hashes=17", "less than or equal to 16"),
        ("loss.streaming.num_buckets=0", "greater than or equal to 1"),
        ("loss.streaming.start_gap=0", "greater than 0"),
        ("negatives.sampled=-1", "greater than or equal to 0"),
        ("negatives.sampled_from=log_uniform", "'uniform' or 'popularity'"),
        ("negatives.hardest=0", "greater than or equal to 1"),
        ("negatives.mined.hard_fraction=0", "greater than 0"),
        ("negatives.mined.every_epochs=0", "greater than or equal to 1"),
        ("negatives.mined.first_rank=0", "greater than or equal to 1"),
        ("negatives.mined.first_rank=101", "first_rank 101 is behind last_rank 100"),
        ("negatives.bank.momentum=1", "less than 1"),
        ("negatives.bank.size=5", "unknown key.*negatives.bank.size"),
        ("training.chunk_size=0", "greater than or equal to 1"),
        (
            "query.features.0.width=0",
            "0.width of feature 'query_id': .*greater than or equal to 1, got 0",
        ),
        ("query.features.0.column=[a, b]", r"0.column of feature 'query_id': .*valid string, got \['a', 'b'\]"),
        (
            "query.features=[{name: a, kind: idd}]",
            "0 of feature 'a': unknown kind 'idd'; there are 'id', 'categ",
        ),
        ("query.features=[{name: a}]", "query.features.0.kind of feature 'a' is missing"),
        ("query.features=[{name: a, kind: time}]", "query.features.0.part of feature 'a' is missing"),
        (
            "query.features=[{name: a, kind: id, widht: 3}]",
            "0.widht' of feature 'a'; did you mean 'width'",
        ),
        ("query.features=[{name: a, kind: history, pooling: {kind: x}}]", "0.pooling of feature 'a': unknown kind 'x'"),
        (
            "query.features=[{name: a, kind: history, pooling: {kind: gru, h: 3}}]",
            "pooling.h' of feature 'a'; known",
        ),
        ("query.features=[{name: [a], kind: id}]", r"query.features.0.name: .*valid string, got \['a'\]"),
        ("query.features=[a]", "query.features.0: .*object, got 'a'"),
        ("query.features=a", "query.features: .*array, got 'a'"),
        (
            "query.features=[{name: a, kind: numeric, scaling: buckets, edges: [3, 1]}]",
            r"query.features.0: feature 'a': edges must rise; got \(3.0, 1.0\)",
        ),
        ("query.features=[{name: a, kind: cross, of: [b, c]}]", r"query: feature 'a' crosses \['b', 'c'\]"),
        ("context.hidden_dims=[3]", "'context.hidden_dims' is within 'context', which is null.*set context as a whole"),
        ("source={kind: movies}", "source: unknown kind 'movies'; there are 'simulated'"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(config, setting, message):
    with pytest.raises(UserError, match=message):
        with_settings(config, [setting])


def test_an_unknown_key_in_a_file_names_the_nearest(config):
    tree = yaml.safe_load(config.to_yaml())
    tree["optimizer"]["learnin_rate"] = 1.0
    with pytest.raises(UserError, match=r"learnin_rate.*did you mean 'learning_rate'.*f\.yaml"):
        config_from_tree(tree, where="f.yaml")


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n", "3\n"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text):
    path = tmp_path / "f.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"f\.yaml"):
        read_config(path)


def test_digest_ignores_places_and_nothing_else(config):
    config = with_settings(config, ["candidate.dropout=0", "candidate.feature_dropout=0"])
    settings = ["source.data_dir=/elsewhere", "training.device=cpu", "training.encode_once=[candidate]"]
    same = with_settings(config, settings)
    assert same.training.encode_once == ("candidate",)
    assert same.digest() == config.digest()
    for setting in ("seed=1", "loss.temperature=0.5", "source.num_queries=2001", "split.seed=1"):
        assert with_settings(config, [setting]).digest() != config.digest(), setting


@pytest.mark.parametrize(
    "build",
    [
        lambda: Optimizer(kind="adam", weight_decay=0.1),
        lambda: Tower(features=()),
        lambda: Tower(features=(IdFeature(name="a"), IdFeature(name="a"))),
        lambda: Tower(features=(IdFeature(name="a"), NumericFeature(name="b")), combine="sum"),
        lambda: Tower(
            features=(IdFeature(name="a", width=2), CategoricalFeature(name="b", width=3)),
            combine="sum",
        ),
        lambda: SplitRule(validation_fraction=0.5, test_fraction=0.5),
        lambda: Loss(temperature=-1.0),
        lambda: Loss(temperature=0.0),
        lambda: Loss(temperature=20.0, learn_temperature=True),
        lambda: Loss(temperature_range=(1.0, 0.1)),
        lambda: Mined(first_rank=5, last_rank=4),
    ],
)
def test_values_that_do_not_go_together_are_refused(build):
    with pytest.raises(ValueError):
        build()


def test_history_belongs_to_the_query_and_bias_needs_an_id(config):
    with pytest.raises(UserError, match="history belongs to a query"):
        with_settings(config, ["candidate.features=[{name: history, kind: history}]"])
    with pytest.raises(UserError, match="candidate_bias needs"):
        with_settings(config, ["candidate.features=[{name: title, kind: categorical}]"])


def test_a_fixed_temperature_may_lie_outside_the_range_of_a_learned_one():
    assert Loss(temperature=20.0).temperature == 20


def test_bounds_of_the_learned_temperature_are_float32_and_hold_its_start():
    loss = Loss(temperature=0.05, learn_temperature=True, temperature_range=(0.05, 3.0))
    low, high = loss.log_temperature_range
    assert (low, high) == (np.float32(np.log(0.05)), np.float32(np.log(3.0)))
    assert np.exp([low, high]) == pytest.approx([0.05, 3.0], rel=1e-6)


def test_refused_rooms_are_named_on_one_line_of_a_command(config):
    with pytest.raises(UserError, match=r"loss.log_q=streaming knows only.*turn off negatives.sampled") as error:
        with_settings(config, ["loss.log_q=streaming", "negatives.sampled=16"])
    assert "\n" not in str(error.value)


def test_settings_of_the_negatives_change_the_digest(config):
    for setting in ("negatives.sampled=8", "negatives.bank.num_batches=2", "training.chunk_size=64"):
        assert with_settings(config, [setting]).digest() != config.digest(), setting
