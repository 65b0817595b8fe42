import hashlib
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pyarrow as pa
import pytest

from retrieval_contract.config import IdFeature, Tower
from retrieval_contract.data.batches import TrainingBatches
from retrieval_contract.data.planted import planted_config, planted_raw
from retrieval_contract.data.prepare import prepare_raw
from retrieval_contract.errors import UserError
from retrieval_contract.sampling.streaming import StreamingFrequency


def batches(raw=None, **rooms):
    config = planted_config(**rooms)
    return TrainingBatches(prepare_raw(raw or planted_raw(), config), config)


def arrays_of(part, prefix=""):
    """Every array of a batch by name, those of its optional parts included."""
    named = {}
    for field in fields(part):
        value = getattr(part, field.name)
        name = prefix + field.name
        if isinstance(value, np.ndarray):
            named[name] = value
        elif isinstance(value, dict):
            named |= {f"{name.removesuffix('_features')}.{feature}": values for feature, values in value.items()}
        elif value is not None:
            named |= arrays_of(value, f"{name}.")
    return named


def digest(steps):
    sha = hashlib.sha256()
    for step in steps:
        for batch in step:
            for name, values in arrays_of(batch).items():
                sha.update(f"{name} {values.dtype} {values.shape}".encode())
                sha.update(values.tobytes())
    return sha.hexdigest()


EVERY_SOURCE = {
    "mask_known_positives": True,
    "mask_not_yet_seen": True,
    "sampled": 5,
    "impressions": 2,
    "mined": {"per_example": 2, "hard_fraction": 0.5, "first_rank": 1, "last_rank": 5},
}
SOME_POSITIVE = {"rule": "rating_at_least", "rating_at_least": 2.0, "weight_column": "weight"}


def rich(**rooms):
    """Batches with unknown values, every source of columns and every mask."""
    unknown = IdFeature(name="candidate_id", width=8, unknown_rate=0.2)
    rooms = {"candidate": Tower(features=(unknown,)), "positives": SOME_POSITIVE, "negatives": EVERY_SOURCE, **rooms}
    source = batches(**rooms)
    source.set_mined(np.arange(90, dtype=np.int32).reshape(30, 3) % 20)
    return source


def some_epochs():
    """What the test in another process repeats: every feature kind, source and mask, two epochs."""
    digests = [digest(step for epoch in (0, 7) for step in rich(seed=3).epoch(epoch))]
    streaming = batches(seed=3, loss={"log_q": "streaming", "streaming": {"num_buckets": 10, "num_hashes": 2}})
    return " ".join([*digests, digest(streaming.epoch(0))])


def test_bytes_are_the_same_in_another_process():
    program = "from retrieval_contract.data.batches_test import some_epochs; print(some_epochs())"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == some_epochs()


def test_digest_notices_one_changed_number():
    (step,) = list(batches(training={"batch_size": 400}).epoch(0))
    before = digest([step])
    step[0].weights[17] = np.nextafter(step[0].weights[17], np.float32(2))
    assert digest([step]) != before


def test_the_order_of_examples_stays_what_it_was():
    first = next(batches(training={"batch_size": 4}, seed=1).epoch(0))[0]
    assert (first.query_rows.tolist(), first.candidate_rows.tolist()) == ([12, 19, 15, 6], [5, 1, 12, 3])


def test_shapes_types_and_counts():
    source = batches()
    assert source.num_examples == 480
    assert source.steps_per_epoch == 30
    (batch,) = next(source.epoch(0))
    assert {name: (values.dtype.name, values.shape) for name, values in arrays_of(batch).items()} == {
        "query_rows": ("int32", (16,)), "candidate_rows": ("int32", (16,)),
        "log_q": ("float32", (16,)), "weights": ("float32", (16,)),
        "query.query_id": ("int32", (16,)), "query.history": ("int32", (16, 5)),
        "query.country": ("int32", (16,)), "query.age": ("float32", (16,)),
        "candidate.candidate_id": ("int32", (16,)), "candidate.genres": ("int32", (16, 2)),
        "candidate.year": ("float32", (16,)),
    }  # fmt: skip


def test_an_epoch_holds_every_train_positive_once():
    source = batches(positives={"weight_column": "weight"})
    rows = planted_raw().interactions
    steps = [batch for (batch,) in source.epoch(2)]
    weights = np.concatenate([batch.weights for batch in steps])
    assert len(set(weights.tolist())) == len(weights) == source.num_examples
    assert set(weights.tolist()) < set(rows["weight"].to_numpy().astype(np.float32).tolist())


def test_features_belong_to_the_rows_beside_them():
    config = planted_config()
    prepared = prepare_raw(planted_raw(), config)
    queries = prepared.features.encode_entities("query", prepared.queries)
    candidates = prepared.features.encode_entities("candidate", prepared.candidates)
    for (batch,) in TrainingBatches(prepared, config).epoch(0):
        for name, values in queries.items():
            assert (batch.query_features[name] == values[batch.query_rows]).all()
        for name, values in candidates.items():
            assert (batch.candidate_features[name] == values[batch.candidate_rows]).all()


def test_histories_end_before_each_examples_own_moment():
    raw = planted_raw(num_rows=300)
    config = planted_config(positives={"weight_column": "weight"}, training={"batch_size": 60})
    prepared = prepare_raw(raw, config)
    rows, train = prepared.interactions, prepared.train_positives
    place_of = {float(rows.weights[place]): place for place in train}
    values = np.array(["", "?", *prepared.features.query[1].values])
    for (batch,) in TrainingBatches(prepared, config).epoch(0):
        for weight, query, got in zip(batch.weights, batch.query_rows, batch.query_features["history"], strict=True):
            earlier = train[
                (rows.query_rows[train] == query) & (rows.times[train] < rows.times[place_of[float(weight)]])
            ]
            earlier = earlier[np.argsort(rows.times[earlier], kind="stable")][-5:]
            names = [prepared.candidates.ids[row] for row in rows.candidate_rows[earlier]]
            assert values[got[got != 0]].tolist() == names


def test_every_epoch_and_every_seed_has_an_order_of_its_own():
    digests = {digest(batches(seed=seed).epoch(epoch)) for seed in (0, 1) for epoch in (0, 1, 2)}
    assert len(digests) == 6


@pytest.mark.parametrize("start_step", [0, 1, 6, 10])
def test_an_epoch_entered_late_goes_on_exactly(start_step):
    ids = Tower(features=(IdFeature(name="candidate_id", unknown_rate=0.5),))
    source = batches(candidate=ids, optimizer={"accumulation_steps": 3})
    assert source.steps_per_epoch == 10
    whole = list(source.epoch(4))
    assert digest(source.epoch(4, start_step=start_step)) == digest(whole[start_step:])


@pytest.mark.parametrize("start_step", [1, 5])
def test_every_source_of_columns_goes_on_exactly(start_step):
    def source():
        return rich(optimizer={"accumulation_steps": 3})

    whole = list(source().epoch(4))
    assert {"sampled.rows", "impressions.allowed", "known_positives.places", "allowed"} < arrays_of(whole[0][0]).keys()
    assert digest(source().epoch(4, start_step=start_step)) == digest(whole[start_step:])
    without = rich(optimizer={"accumulation_steps": 3})
    without.set_mined(None)
    assert digest(without.epoch(4, start_step=start_step)) != digest(whole[start_step:])


@pytest.mark.parametrize("num_threads", [1, 3])
def test_batches_made_ahead_are_the_same(num_threads):
    source = rich(optimizer={"accumulation_steps": 3})
    assert digest(rich(optimizer={"accumulation_steps": 3}).epoch(1, num_threads=num_threads)) == digest(
        source.epoch(1)
    )
    assert digest(source.epoch(1, start_step=4, num_threads=num_threads)) == digest(list(source.epoch(1))[4:])
    assert list(source.epoch(1, start_step=source.steps_per_epoch, num_threads=num_threads)) == []
    counting, alone = batches(**STREAMING), batches(**STREAMING)
    assert digest(counting.epoch(0, num_threads=num_threads)) == digest(alone.epoch(0))
    next(counting.epoch(1, num_threads=num_threads)), next(alone.epoch(1))
    assert counting.state()["sampling/step"] == alone.state()["sampling/step"]


# ---------------------------------------------------------------- the streaming estimator


STREAMING = {
    "loss": {"log_q": "streaming", "streaming": {"rate": 0.1, "num_buckets": 50, "num_hashes": 2}},
    "optimizer": {"accumulation_steps": 2},
}


def test_the_estimator_counts_each_batch_and_then_reads():
    source, by_hand = batches(**STREAMING), StreamingFrequency(planted_config(**STREAMING).loss.streaming)
    for epoch in (0, 1):
        for step in source.epoch(epoch):
            for batch in step:
                by_hand.update(batch.candidate_rows)
                assert batch.log_q.tobytes() == by_hand.log_q(batch.candidate_rows).tobytes()
    assert source.state()["sampling/step"] == 2 * 2 * source.steps_per_epoch == 60


def test_a_streaming_run_goes_on_exactly_from_its_state():
    whole, begun, resumed, forgetful = (batches(**STREAMING) for _ in range(4))
    steps = [step for epoch in (0, 1) for step in whole.epoch(epoch)]
    list(begun.epoch(0))
    going_on = begun.epoch(1)
    for _ in range(4):
        next(going_on)
    resumed.restore({name: array.copy() for name, array in begun.state().items()})
    rest = digest(steps[begun.steps_per_epoch + 4 :])
    assert digest(resumed.epoch(1, start_step=4)) == rest
    assert digest(forgetful.epoch(1, start_step=4)) != rest


def test_other_corrections_leave_no_state_and_need_none():
    source = batches()
    next(source.epoch(0))
    assert source.state() == {}
    source.restore({})


def test_a_checkpoint_without_the_estimator_is_refused():
    with pytest.raises(UserError, match=r"sampling/gap is missing.*checkpoint"):
        batches(**STREAMING).restore({})


def test_accumulation_divides_an_epoch_into_the_same_batches():
    one = [batch for step in batches().epoch(1) for batch in step]
    four = [batch for step in batches(optimizer={"accumulation_steps": 4}).epoch(1) for batch in step]
    assert len(four) == 28
    assert digest([one[:28]]) == digest([four])


def test_log_q_is_the_share_of_train_positives_or_zero():
    config = planted_config()
    prepared = prepare_raw(planted_raw(), config)
    (batch,) = next(TrainingBatches(prepared, config).epoch(0))
    share = prepared.candidate_counts()[batch.candidate_rows] / 480
    np.testing.assert_allclose(batch.log_q, np.log(share), rtol=1e-6)
    (plain,) = next(batches(loss={"log_q": "none"}).epoch(0))
    assert (plain.log_q == 0).all()


def test_weights_are_the_rows():
    assert (next(batches().epoch(0))[0].weights == 1).all()
    assert len(np.unique(next(batches(positives={"weight_column": "weight"}).epoch(0))[0].weights)) == 16


def test_unknown_rate_replaces_about_that_share_and_nothing_else():
    def gathered(rate):
        ids = Tower(features=(IdFeature(name="candidate_id", unknown_rate=rate),))
        steps = list(batches(planted_raw(num_rows=4000), candidate=ids).epoch(0))
        return np.concatenate([batch.candidate_features["candidate_id"] for (batch,) in steps]), digest(
            (replace_ids(batch),) for (batch,) in steps
        )

    def replace_ids(batch):
        batch.candidate_features["candidate_id"][:] = 0
        return batch

    (plain, rest), (changed, rest_changed) = gathered(0.0), gathered(0.3)
    assert (plain > 1).all()
    replaced = changed == 1
    assert (changed[~replaced] == plain[~replaced]).all()
    assert 0.26 < replaced.mean() < 0.34
    assert rest == rest_changed


def test_replacing_leaves_the_catalogue_as_it_was():
    ids = Tower(features=(IdFeature(name="candidate_id", unknown_rate=0.9),))
    config = planted_config(candidate=ids)
    prepared = prepare_raw(planted_raw(), config)
    before = prepared.candidate_features()["candidate_id"].copy()
    list(TrainingBatches(prepared, config).epoch(0))
    assert (prepared.candidate_features()["candidate_id"] == before).all()


def test_fewer_examples_than_a_batch_make_one_batch_and_a_note():
    source = batches(training={"batch_size": 1000})
    assert (source.batch_size, source.steps_per_epoch) == (480, 1)
    assert source.notes == ("batch size 1,000 lowered to 480, the train positives there are",)
    (step,) = source.epoch(0)
    assert len(step[0].query_rows) == 480
    assert batches().notes == ()


def test_fewer_batches_than_a_step_takes_are_refused():
    with pytest.raises(UserError, match="480 train positives are less than one step of 31 batches of 16"):
        batches(optimizer={"accumulation_steps": 31})


def test_two_train_positives_are_the_least_and_make_a_batch():
    table = planted_raw().interactions.slice(0, 3)
    table = table.set_column(1, "candidate_id", pa.array(["c1", "c2", "c3"])).set_column(
        0, "query_id", pa.array(["q0", "q1", "q0"])
    )
    raw = replace(planted_raw(), interactions=table.append_column("split", pa.array(["train", "train", "test"])))
    ids = [Tower(features=(IdFeature(name=name),)) for name in ("query_id", "candidate_id")]
    rooms = {"split": {"kind": "column"}, "query": ids[0], "candidate": ids[1]}
    source = batches(raw, **rooms, negatives={"sampled": 3, "mask_known_positives": True})
    (batch,) = next(source.epoch(0))
    assert sorted(batch.candidate_rows.tolist()) == [1, 2]
    assert (source.batch_size, source.steps_per_epoch) == (2, 1)
    with pytest.raises(ValueError, match="batch_size"):
        planted_config(training={"batch_size": 1})
