"""Every array that is read from the past or from the request, against its definition, row by row."""

import hashlib
import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from retrieval_contract.config import CategoricalFeature, IdFeature
from retrieval_contract.data.batches import TrainingBatches
from retrieval_contract.data.batches_test import arrays_of, digest
from retrieval_contract.data.crosses import cross_rows
from retrieval_contract.data.histories import Histories
from retrieval_contract.data.planted_past import HALF_LIFE_DAYS, past_config, past_raw
from retrieval_contract.data.prepare import prepare_raw
from retrieval_contract.errors import UserError


@pytest.fixture(scope="module")
def prepared():
    return prepare_raw(past_raw(), past_config())


def items_before(prepared, query, time, known, length):
    """Places in the interactions of a query's last known positives before a time, oldest first."""
    rows = prepared.interactions
    mine = [int(place) for place in known if rows.query_rows[place] == query and rows.times[place] < time]
    return sorted(mine, key=lambda place: (rows.times[place], place))[-length:]


def padded(values, length, like):
    """Items' values, zeros behind, as an array of the given one's type."""
    zeros = np.zeros_like(like[0])
    return np.array([*values, *[zeros] * (length - len(values))], like.dtype).reshape(length, *like.shape[1:])


def history_by_hand(prepared, feature, query, time, known):
    """One line of each array of a history."""
    rows, catalogue, spec = prepared.interactions, prepared.candidate_features(), feature.spec
    items = items_before(prepared, query, time, known, spec.max_length)
    candidates = rows.candidate_rows[items]
    vocabulary = {value: row + 2 for row, value in enumerate(feature.values or ())}
    ids = [vocabulary.get(prepared.candidates.ids[row], 1) for row in candidates]
    lines = {spec.name: padded(ids, spec.max_length, np.zeros(1, np.int32))}
    for field in spec.fields:
        for name in (field, f"{field}.weights"):
            if name in catalogue:
                lines[f"{spec.name}.{name}"] = padded(catalogue[name][candidates], spec.max_length, catalogue[name])
    seconds = [int(time - rows.times[item]) for item in items]
    if spec.age_buckets:
        ages = [1 + min(math.floor(math.log2(1 + age / 3600)), spec.age_buckets - 1) for age in seconds]
        lines[f"{spec.name}.ages"] = padded(ages, spec.max_length, np.zeros(1, np.int32))
    if spec.pooling.kind == "weighted_mean":
        half_life = spec.pooling.half_life_days
        factors = [1.0 if half_life is None else 0.5 ** (age / 86_400 / half_life) for age in seconds]
        weights = [float(rows.weights[item]) * factor for item, factor in zip(items, factors, strict=True)]
        lines[f"{spec.name}.weights"] = padded(weights, spec.max_length, np.zeros(1, np.float32))
    return lines


def affinity_by_hand(prepared, spec, query, time, known):
    """Shares of one target."""
    rows = prepared.interactions
    of = prepared.candidate_features()[spec.of]
    sums = [0.0] * spec.width
    for item in items_before(prepared, query, time, known, spec.max_length):
        values = [int(row) for row in np.atleast_1d(of[rows.candidate_rows[item]]) if row >= 2]
        for value in values:
            sums[value - 2] += float(rows.weights[item]) / len(values)
    total = sum(sums)
    return np.array([share / total if total else 0.0 for share in sums])


def check_past(prepared, features, query_rows, times, known):
    """Compare every line with the definition; says how many items were met."""
    num_items = 0
    for place, (query, time) in enumerate(zip(query_rows.tolist(), times.tolist(), strict=True)):
        for feature in prepared.features.histories:
            for name, line in history_by_hand(prepared, feature, query, time, known).items():
                got = features[name][place]
                assert got.dtype == line.dtype and got.shape == line.shape, name
                if name.endswith(".weights") and ".genres" not in name:
                    np.testing.assert_allclose(got, line, rtol=3e-7, atol=0)
                else:
                    assert got.tobytes() == line.tobytes(), (name, got, line)
            num_items += int((features[feature.name][place] > 0).sum())
        for feature in prepared.features.affinities:
            expected = affinity_by_hand(prepared, feature.spec, query, time, known)
            np.testing.assert_allclose(features[feature.name][place], expected, rtol=2e-7, atol=1e-9)
    return num_items


def places_of(prepared, batch):
    """The rows of the interactions that a batch's weights name."""
    place_of = {float(prepared.interactions.weights[place]): place for place in prepared.train_positives}
    return np.array([place_of[weight] for weight in batch.weights.tolist()])


def test_training_batches_carry_the_past_of_each_example(prepared):
    rows, num_items, num_empty = prepared.interactions, 0, 0
    for step, (batch,) in enumerate(TrainingBatches(prepared, past_config()).epoch(0)):
        if step % 4 == 0:
            times = rows.times[places_of(prepared, batch)]
            num_items += check_past(prepared, batch.query_features, batch.query_rows, times, prepared.train_positives)
        num_empty += int((batch.query_features["past"] == 0).all(axis=1).sum())
    assert num_items > 300 and num_empty > 0


def test_the_check_notices_an_item_of_the_same_moment(prepared):
    query_rows, times = prepared.evaluation_times("test")
    features = prepared.query_features(query_rows, times)
    with pytest.raises(AssertionError):
        check_past(prepared, features, query_rows, times + 7_200, prepared.train_positives)


def test_shares_sum_to_one_or_are_zeros(prepared):
    query_rows, times = prepared.evaluation_times("test")
    for name in ("likes", "tags"):
        sums = prepared.query_features(query_rows, times)[name].sum(axis=1)
        assert (np.isclose(sums, 1) | (sums == 0)).all() and (sums > 0).any()
    assert not prepared.query_features(query_rows, times * 0)["likes"].any()


def test_weights_of_zero_count_for_nothing():
    raw = past_raw()
    weights = np.where(np.arange(600) % 2 == 0, 0.0, raw.interactions["weight"].to_numpy())
    table = raw.interactions.drop_columns(["weight"]).append_column("weight", pa.array(weights))
    prepared = prepare_raw(replace(raw, interactions=table), past_config())
    rows = prepared.interactions
    query_rows, times = prepared.evaluation_times("test")
    features = prepared.query_features(query_rows, times)
    check_past(prepared, features, query_rows, times, prepared.train_positives)
    assert (rows.weights[prepared.train_positives] == 0).any()


# ---------------------------------------------------------------- requests


def request_by_hand(prepared, place, query):
    """One line of each array of a request; None for the place knows nothing of it."""
    features, table = prepared.features, prepared.interactions.table
    device = None if place is None else table["device"][int(place)].as_py()
    rows = {}
    for side in ("query", "context"):
        vocabulary = {value: row + 2 for row, value in enumerate(features.feature(side, "device").values)}
        rows[side] = vocabulary.get(device, 1)
    hour = None if place is None else 2 + (prepared.interactions.times[place] // 3600) % 24
    country = int(prepared.query_features(np.array([query], np.int32), None)["country"][0])
    average = None if place is None else table["average"][int(place)].as_py()
    return {
        "device": rows["query"],
        "country_device": int(cross_rows([np.array([country]), np.array([rows["query"]])], 50)[0]),
        "context.device": rows["context"],
        "context.hour": 1 if hour is None else int(hour),
        "context.device_hour": int(
            cross_rows([np.array([rows["context"]]), np.array([1 if hour is None else int(hour)])], 50)[0]
        ),
    }, average


def check_requests(prepared, features, places, query_rows):
    spec = prepared.features.feature("context", "average")
    for at, (place, query) in enumerate(zip(places, query_rows.tolist(), strict=True)):
        expected, average = request_by_hand(prepared, place, query)
        assert {name: int(features[name][at]) for name in expected} == expected
        value = 0.0 if average is None else (average - spec.mean) / spec.std
        np.testing.assert_allclose(features["context.average"][at], [value, float(average is None)], atol=1e-6)


def test_requests_of_batches_and_of_evaluation_are_the_rows_own(prepared):
    (batch,) = next(TrainingBatches(prepared, past_config()).epoch(3))
    check_requests(prepared, batch.query_features, places_of(prepared, batch), batch.query_rows)
    query_rows, times = prepared.evaluation_times("test")
    places = prepared.evaluation_requests("test")
    rows = prepared.interactions
    assert (rows.query_rows[places] == query_rows).all() and (rows.times[places] == times).all()
    assert rows.positive[places].all() and np.isin(places, prepared.split.test).all()
    check_requests(prepared, prepared.query_features(query_rows, times, places), places, query_rows)


def test_an_unknown_request_is_unknown_but_for_its_time(prepared):
    query_rows = np.array([3, 3, 7], np.int32)
    features = prepared.query_features(query_rows, None)
    check_requests(prepared, features, [None] * 3, query_rows)
    at_five = prepared.query_features(query_rows, np.full(3, 1_600_000_000 - 1_600_000_000 % 86_400 + 5 * 3_600))
    assert at_five["context.hour"].tolist() == [7] * 3
    assert (at_five["device"] == 1).all()


def test_asked_now_ages_count_to_the_last_known_row(prepared):
    rows = prepared.interactions
    query_rows = np.arange(30, dtype=np.int32)
    last = rows.times[prepared.train_positives].max()
    features = prepared.query_features(query_rows, None)
    assert (features["past"] > 0).any(axis=1).all()
    for query in (0, 11, 29):
        items = items_before(prepared, query, last + 1, prepared.train_positives, 7)
        ages = [1 + min(int(math.log2(1 + (last - rows.times[item]) / 3600)), 3) for item in items]
        assert features["past.ages"][query].tolist() == ages + [0] * (7 - len(ages))


def test_the_order_is_the_configs_with_companions_behind_and_context_last(prepared):
    names = list(prepared.query_features(np.array([0], np.int32), None))
    heads = list(dict.fromkeys(name.partition(".")[0] for name in names))
    assert heads == [feature.name for feature in prepared.features.query] + ["context"]
    assert names[-4:] == ["context.device", "context.average", "context.hour", "context.device_hour"]


# ---------------------------------------------------------------- what is known


LEAVE_ONE_OUT = {"split": {"kind": "leave_one_out"}, "evaluation": {"known": "train_and_validation"}}


def test_validation_rows_are_known_to_test_rows_and_to_nobody_else():
    config = past_config(**LEAVE_ONE_OUT)
    prepared = prepare_raw(past_raw(hours=100_000), config)
    rows = prepared.interactions
    held = prepared.split.validation[rows.positive[prepared.split.validation]]
    both = np.sort(np.concatenate([prepared.train_positives, held]))
    query_rows, times = prepared.evaluation_times("test")
    of_test = prepared.query_features(query_rows, times, part="test")
    check_past(prepared, of_test, query_rows, times, both)
    with pytest.raises(AssertionError):
        check_past(prepared, of_test, query_rows, times, prepared.train_positives)
    check_past(prepared, prepared.query_features(query_rows, times), query_rows, times, prepared.train_positives)
    query_rows, times = prepared.evaluation_times("validation")
    of_validation = prepared.query_features(query_rows, times, part="validation")
    check_past(prepared, of_validation, query_rows, times, prepared.train_positives)


def test_seen_and_relevant_follow_what_is_known():
    prepared, plain = (
        prepare_raw(past_raw(), past_config(**{**LEAVE_ONE_OUT, "evaluation": {"known": known}}))
        for known in ("train_and_validation", "train")
    )
    rows, split = prepared.interactions, prepared.split
    wanted = np.zeros((30, 20), bool)
    wanted[rows.query_rows[split.train], rows.candidate_rows[split.train]] = True
    assert (prepared.seen().toarray() == wanted).all() and (prepared.seen("validation").toarray() == wanted).all()
    assert (plain.seen("test").toarray() == wanted).all()
    met = wanted.copy()
    met[rows.query_rows[split.validation], rows.candidate_rows[split.validation]] = True
    assert (prepared.seen("test").toarray() == met).all() and met.sum() > wanted.sum()
    relevant = prepared.relevant("test", exclude_seen=True).toarray()
    assert not (relevant & met).any()
    assert (plain.relevant("test", exclude_seen=True).toarray() & met).sum() == (
        met & ~wanted & (plain.relevant("test", exclude_seen=False).toarray() > 0)
    ).sum()


# ---------------------------------------------------------------- leaks


def example_bytes(prepared, batch, places, target):
    """Digest of everything a batch holds of the example of one row of the interactions."""
    at = int(np.flatnonzero(places == target)[0])
    named = {
        name: values[at]
        for name, values in arrays_of(batch).items()
        if name.startswith(("query.", "candidate.")) or name in ("weights", "candidate_rows")
    }
    sha = hashlib.sha256()
    for name, values in named.items():
        sha.update(name.encode() + np.ascontiguousarray(values).tobytes())
    return sha.hexdigest()


def changed(raw, target):
    """Every other row at or after the target's moment gets other candidates, weights and requests."""
    table = raw.interactions
    times = table["time"].to_numpy()
    later = (times >= times[target]) & (np.arange(len(times)) != target)
    draw = np.random.default_rng(9)
    other = {
        "candidate_id": [f"c{row}" for row in draw.integers(20, size=len(times))],
        "weight": (table["weight"].to_numpy() + 1).tolist(),
        "device": ["tv"] * len(times),
        "average": [0.25] * len(times),
    }
    columns = {
        name: [new if now else old for new, old, now in zip(values, table[name].to_pylist(), later, strict=True)]
        for name, values in other.items()
    }
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values, table[name].type))
    return replace(raw, interactions=table), int(later.sum())


def test_nothing_at_or_after_the_targets_moment_changes_a_byte_of_its_example():
    raw, config = past_raw(), past_config()
    prepared = prepare_raw(raw, config)
    fitted = prepared.features.to_json()
    batches = [(batch, places_of(prepared, batch)) for (batch,) in TrainingBatches(prepared, config).epoch(0)]
    num_changed = 0
    for batch, places in batches[::5]:
        target = places[3]
        other_raw, later = changed(raw, int(target))
        other = prepare_raw(other_raw, config, features_json=fitted)
        assert other.split.train.tolist() == prepared.split.train.tolist()
        (same,) = [b for (b,) in TrainingBatches(other, config).epoch(0) if target in places_of(other, b)]
        at = places_of(other, same)
        assert example_bytes(prepared, batch, places, target) == example_bytes(other, same, at, target)
        num_changed += later
    assert num_changed > 500


def test_the_leak_test_notices_a_row_of_the_same_moment(monkeypatch):
    monkeypatch.setattr(Histories, "own_ends", property(_ends_too_late))
    with pytest.raises(AssertionError):
        test_nothing_at_or_after_the_targets_moment_changes_a_byte_of_its_example()


def _ends_too_late(histories):
    ends = np.empty(len(histories.order), np.int64)
    query_ends = np.repeat(histories.starts[1:], np.diff(histories.starts))
    ends[histories.order] = np.minimum(histories.firsts + 2, query_ends)
    return ends


# ---------------------------------------------------------------- unknown values


def with_rates(rate):
    """The same towers, with context and query features and ids replaced at a rate."""
    base = past_config()

    def rated(tower):
        features = [
            feature.model_copy(update={"unknown_rate": rate})
            if isinstance(feature, IdFeature | CategoricalFeature)
            else feature
            for feature in tower.features
        ]
        return tower.model_copy(update={"features": tuple(features)})

    return past_config(**{side: rated(tower) for side, tower in base.towers.items()})


def test_unknown_rates_replace_values_of_every_tower_and_their_crosses(prepared):
    config = with_rates(0.5)
    noisy = prepare_raw(past_raw(), config)
    plain = [batch for (batch,) in TrainingBatches(prepared, past_config()).epoch(0)]
    made = [batch for (batch,) in TrainingBatches(noisy, config).epoch(0)]
    for name, side in [
        ("query_id", "query_features"),
        ("device", "query_features"),
        ("context.device", "query_features"),
        ("candidate_id", "candidate_features"),
        ("tag", "candidate_features"),
    ]:
        before = np.concatenate([getattr(batch, side)[name] for batch in plain])
        after = np.concatenate([getattr(batch, side)[name] for batch in made])
        assert ((after == before) | (after == 1)).all()
        assert 0.4 < (after[before > 1] == 1).mean() < 0.6
    for batch in made:
        query, candidate = batch.query_features, batch.candidate_features
        assert (query["country_device"] == cross_rows([query["country"], query["device"]], 50)).all()
        assert (query["context.device_hour"] == cross_rows([query["context.device"], query["context.hour"]], 50)).all()
        assert (candidate["id_tag"] == cross_rows([candidate["candidate_id"], candidate["tag"]], 50)).all()
    for old, new in zip(plain, made, strict=True):
        for name in ("past", "past.tag", "likes", "context.hour"):
            assert (old.query_features[name] == new.query_features[name]).all()


@pytest.mark.parametrize("start_step", [1, 7])
def test_an_epoch_entered_late_goes_on_exactly(start_step):
    config = with_rates(0.3)
    prepared = prepare_raw(past_raw(), config)
    whole = list(TrainingBatches(prepared, config).epoch(2))
    assert digest(TrainingBatches(prepared, config).epoch(2, start_step=start_step)) == digest(whole[start_step:])


def test_ages_without_times_are_refused():
    raw = past_raw()
    config = past_config(context=None)
    query = config.query.model_copy(
        update={"features": tuple(f for f in config.query.features if f.name in ("past", "query_id"))}
    )
    ordered = replace(raw, has_timestamps=False)
    with pytest.raises(UserError, match="'past' has age_buckets=4"):
        prepare_raw(ordered, past_config(context=None, query=query))
    decayed = query.model_copy(
        update={"features": tuple(f for f in past_config().query.features if f.name in ("recent", "query_id"))}
    )
    with pytest.raises(UserError, match=f"'recent' has half_life_days={HALF_LIFE_DAYS}"):
        prepare_raw(ordered, past_config(context=None, query=decayed))
