"""The seed domain's run has the widths that the domain gives it, and its data fills every one of them."""

import numpy as np
import pytest

from retrieval_contract.config import RunConfig
from retrieval_contract.data.batches import TrainingBatches
from retrieval_contract.data.prepare import prepare
from retrieval_contract.presets import preset

VIEWER = {"query_id": 64, "age": 8, "country": 16, "language": 8}
DEVICE, HABITS = {"device": 4}, {"average_watch_seconds": 1, "videos_7d": 1}
PAST, MOMENT = {"history": 128, "category_affinity": 20}, {"hour": 8, "weekday": 4}
VIDEO = {
    "candidate_id": 64, "creator": 32, "category": 16, "duration": 8, "upload_age": 1, "title_vector": 128, "views": 1,
    "completion_rate": 1, "like_ratio": 1,
}  # fmt: skip


def widths(tower):
    return {feature.name: feature.output_width for feature in tower.features}


def small(name):
    run = preset(name)
    source = {**run.source.model_dump(), "num_interactions": 6_000, "num_queries": 300, "num_candidates": 200}
    tree = {**run.model_dump(), "source": source, "training": {**run.training.model_dump(), "batch_size": 64}}
    return RunConfig.model_validate(tree)


def test_video_has_the_widths_of_the_seed_domain():
    run = preset("video")
    assert widths(run.query) == VIEWER | DEVICE | HABITS | PAST | MOMENT
    assert widths(run.candidate) == VIDEO
    edges = {feature.name: feature.edges for tower in (run.query, run.candidate) for feature in tower.features
             if getattr(feature, "edges", ())}  # fmt: skip
    assert edges == {"age": (18, 25, 35, 45, 55), "duration": (60, 300, 900, 1800)}
    assert run.positives.rule == "engaged" and run.positives.watched_above == 0.5
    assert run.positives.weight_column == "watch_seconds"
    by_name = {feature.name: feature for feature in run.query.features}
    assert by_name["country"].top == 50 and by_name["history"].max_length == 50
    assert by_name["device"].encoding == "one_hot"


def test_video_context_takes_the_request_out_of_the_query():
    run = preset("video_context")
    assert widths(run.query) == VIEWER | HABITS | PAST and widths(run.candidate) == VIDEO
    assert widths(run.context) == DEVICE | MOMENT


@pytest.mark.parametrize("name", ["video", "video_context"])
def test_the_simulator_fills_every_feature(name):
    run = small(name)
    prepared = prepare(run)
    batch = next(iter(TrainingBatches(prepared, run).epoch(0)))[0]
    names = [("context." if side == "context" else "") + feature.name
             for side in ("query", "context") if side in run.towers
             for feature in run.towers[side].features]  # fmt: skip
    assert [name for name in batch.query_features if not name.endswith(".weights")] == names
    for name, values in {**batch.query_features, **batch.candidate_features}.items():
        values = np.asarray(values, np.float64)
        assert np.isfinite(values).all() and len(np.unique(values)) > 1, name
    assert batch.query_features["history"].shape == (64, 50)
    assert batch.weights.std() > 0
    affinity = batch.query_features["category_affinity"].sum(axis=1)
    assert set(np.round(affinity, 5)) <= {0.0, 1.0} and affinity.any()


def test_the_cold_preset_loses_ids_in_training_and_has_content():
    candidate = preset("movietweetings_100k_cold").candidate
    assert candidate.features[0].unknown_rate > 0
    assert {feature.kind for feature in candidate.features[1:]} == {"multivalent", "text"}
