"""Every refusal fires with its reason, its nearest allowed neighbours pass, and each names a field to change."""

import ast
import re
from functools import reduce
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from retrieval_contract import combinations
from retrieval_contract.combinations import refusals
from retrieval_contract.config import (
    AffinityFeature,
    CategoricalFeature,
    HistoryFeature,
    IdFeature,
    MultivalentFeature,
    RunConfig,
    TimeFeature,
    Tower,
)

TOWERS = {
    "query": Tower(features=(IdFeature(name="query_id"),)),
    "candidate": Tower(features=(IdFeature(name="candidate_id"),)),
}
NO_CORRECTION = {"loss.log_q": "none"}
CONTRASTIVE = {"loss.kind": "contrastive", "loss.log_q": "none", "model.normalize": True}
SOURCES = {"negatives.sampled": 4, "negatives.impressions": 2, "negatives.mined.per_example": 1}
BANK = {"negatives.bank.num_batches": 2}
FULL = {"loss.kind": "full_softmax", "loss.log_q": "none"}
ONCE = {"training.encode_once": ("query", "candidate")}
CANDIDATES_ONCE = {"training.encode_once": ("candidate",)}
HOUR = TimeFeature(name="hour", part="hour", at="request")
OF_THE_MOMENT = (
    HistoryFeature(name="past"),
    AffinityFeature(name="taste", of="genre", width=9),
    CategoricalFeature(name="device", at="request"),
    HOUR,
)
GENRE = Tower(features=(IdFeature(name="candidate_id"), CategoricalFeature(name="genre")))
OTHER_LOSSES = ("full_softmax", "bpr", "triplet", "contrastive", "sigmoid", "gbce")


def tower(side, *more, **settings):
    return Tower(features=(*TOWERS[side].features, *more), **settings)


def tree_of(settings):
    tree = {}
    for path, value in settings.items():
        *rooms, field = path.split(".")
        reduce(lambda room, name: room.setdefault(name, {}), rooms, tree)[field] = value
    return tree


def config(settings):
    return RunConfig.model_validate({**TOWERS, **tree_of(settings)})


def refused(settings):
    with pytest.raises(ValueError) as error:
        config(settings)
    return str(error.value)


# ---------------------------------------------------------------- one by one

REFUSED = [
    *(
        ({"loss.kind": kind, "loss.log_q": log_q}, rf"loss.kind={kind} .*set loss.log_q=none")
        for kind in OTHER_LOSSES
        for log_q in ("exact", "streaming", "refined")
    ),
    ({"loss.kind": "full_softmax"}, "scores every candidate and samples none"),
    ({"loss.kind": "bpr"}, "has no log-sum to correct"),
    *(({**FULL, name: size}, f"every candidate as a column.*{name[:15]}") for name, size in SOURCES.items()),
    ({**FULL, **BANK}, "every candidate as a column already; turn off negatives.bank"),
    ({**FULL, **SOURCES, **BANK}, "negatives.sampled, negatives.impressions, negatives.mined, negatives.bank"),
    ({**FULL, "negatives.mask_not_yet_seen": True}, "negatives.mask_not_yet_seen masks columns of a batch"),
    ({**FULL, "training.chunk_size": 64}, "training.chunk_size caches a batch's vectors"),
    ({"loss.log_q": "refined", "loss.remove_accidental_hits": False}, "set loss.remove_accidental_hits"),
    ({"loss.log_q": "refined", "negatives.hardest": 5}, "negatives.hardest keeps few"),
    *(
        ({"loss.log_q": "streaming", name: size}, f"only candidates that came in a batch.*turn off {name[:15]}")
        for name, size in SOURCES.items()
    ),
    ({"negatives.bank.momentum": 0.999}, "set negatives.bank.num_batches"),
    *(
        ({**BANK, name: size, "loss.log_q": log_q}, f"the bank's share of the columns.*{name[:15]}.*loss.log_q=none")
        for name, size in SOURCES.items()
        for log_q in ("exact", "refined", "streaming")
    ),
    ({**BANK, "negatives.mask_not_yet_seen": True}, "negatives.mask_not_yet_seen covers a batch's own columns"),
    ({**CONTRASTIVE, "model.normalize": False}, "distance 1 - cosine; set model.normalize=true"),
    ({**CONTRASTIVE, "model.candidate_bias": True}, "model.candidate_bias=false"),
    ({**CONTRASTIVE, "loss.temperature": 0.5}, "loss.temperature=1"),
    ({**CONTRASTIVE, "loss.learn_temperature": True}, "loss.learn_temperature=false"),
    ({"training.chunk_size": 65, "training.batch_size": 64}, "training.chunk_size 65 is larger than .* 64"),
    ({**ONCE, "training.chunk_size": 64}, "training.encode_once needs the whole batch's rows"),
    ({**ONCE, **FULL}, "encodes the catalogue.*; take candidate out of training.encode_once"),
    *(
        ({**ONCE, side: tower(side, **{rate: 0.1})}, rf"{side}.dropout and .* draw for each copy.*take {side} out")
        for side in TOWERS
        for rate in ("dropout", "feature_dropout")
    ),
    *(
        ({**ONCE, side: tower(side, norm="batch")}, rf"{side}.norm=batch counts a row as often as it stands")
        for side in TOWERS
    ),
    *(
        (
            {**ONCE, side: Tower(features=(IdFeature(name="its_id", unknown_rate=0.1),))},
            rf"'its_id' has an unknown_rate.*take {side} out",
        )
        for side in TOWERS
    ),
    *(
        ({**ONCE, "candidate": GENRE, "query": tower("query", feature)}, f"{feature.name!r} is of the moment")
        for feature in OF_THE_MOMENT
    ),
    ({**ONCE, "context": Tower(features=(HOUR,))}, "context tower's features are of the request"),
]


@pytest.mark.parametrize(("settings", "reason"), REFUSED)
def test_a_combination_is_refused_with_its_reason(settings, reason):
    assert re.search(reason, refused(settings)), refused(settings)


def test_every_sentence_is_said_by_one_of_the_cases():
    """A rule added to the file needs a case here: the words of each `yield` are looked for in what was said."""
    said = [refused(settings) for settings, _ in REFUSED]
    tree = ast.parse(Path(combinations.__file__).read_text())
    sentences = [node.value for node in ast.walk(tree) if isinstance(node, ast.Yield)]
    for sentence in sentences:
        words = max((part.value for part in ast.walk(sentence) if isinstance(part, ast.Constant)), key=len)
        assert any(words in message for message in said), words
    assert len(sentences) >= 12


ALLOWED = [
    *({"loss.kind": kind, **NO_CORRECTION} for kind in OTHER_LOSSES if kind != "contrastive"),
    CONTRASTIVE,
    {**CONTRASTIVE, **SOURCES, **BANK, "negatives.hardest": 3},
    *({"loss.log_q": log_q} for log_q in ("none", "exact", "streaming", "refined")),
    {**FULL, "negatives.mask_known_positives": True, "negatives.hardest": 10, "loss.learn_temperature": True},
    {**FULL, "loss.remove_accidental_hits": False},
    *({name: size, "loss.log_q": log_q} for name, size in SOURCES.items() for log_q in ("none", "exact", "refined")),
    {**SOURCES, "negatives.mask_known_positives": True, "negatives.mask_not_yet_seen": True, "negatives.hardest": 9},
    {**SOURCES, "loss.log_q": "refined", "training.chunk_size": 8},
    *({**BANK, "loss.log_q": log_q} for log_q in ("none", "exact", "streaming", "refined")),
    {**BANK, **SOURCES, **NO_CORRECTION},
    {**BANK, "negatives.bank.momentum": 0.999, "negatives.bank.warmup_steps": 5, "training.chunk_size": 8},
    {"loss.log_q": "streaming", "negatives.mask_not_yet_seen": True, "negatives.mask_known_positives": True},
    {"loss.remove_accidental_hits": False},
    {"training.chunk_size": 64, "training.batch_size": 64},
    {**ONCE, **SOURCES, "loss.log_q": "refined", "negatives.hardest": None, "negatives.mask_known_positives": True},
    {**ONCE, **BANK, "negatives.bank.momentum": 0.9, "loss.log_q": "streaming"},
    {**ONCE, "candidate": tower("candidate", MultivalentFeature(name="tags")), "query": tower("query", norm="layer")},
    {**FULL, "training.encode_once": ("query",)},
    *({**CANDIDATES_ONCE, "candidate": GENRE, "query": tower("query", feature)} for feature in OF_THE_MOMENT),
    {**CANDIDATES_ONCE, "query": tower("query", dropout=0.2, norm="batch"), "context": Tower(features=(HOUR,))},
    *(
        {**SOURCES, "loss.kind": kind, **NO_CORRECTION, "loss.learn_temperature": True, "model.candidate_bias": True}
        for kind in ("bpr", "triplet", "sigmoid", "gbce")
    ),
]


@pytest.mark.parametrize("settings", ALLOWED)
def test_an_allowed_neighbour_passes(settings):
    assert refusals(config(settings)) == []


# ---------------------------------------------------------------- anything

PATHS = re.compile(r"\b(?:loss|negatives|training|model)(?:\.[a-z_]+)+")
CHOICES = {
    "loss.kind": ("softmax", *OTHER_LOSSES),
    "loss.log_q": ("none", "exact", "streaming", "refined"),
    "loss.remove_accidental_hits": (True, False),
    "loss.temperature": (1.0, 0.05),
    "loss.learn_temperature": (False, True),
    "model.normalize": (False, True),
    "model.candidate_bias": (False, True),
    "negatives.mask_known_positives": (False, True),
    "negatives.mask_not_yet_seen": (False, True),
    "negatives.hardest": (None, 5),
    "negatives.sampled": (0, 8),
    "negatives.impressions": (0, 2),
    "negatives.mined.per_example": (0, 1),
    "negatives.bank.num_batches": (0, 3),
    "negatives.bank.momentum": (None, 0.99),
    "training.chunk_size": (None, 16, 2_000),
    "training.encode_once": ((), ("candidate",), ("query", "candidate")),
}
ANY_SETTINGS = st.fixed_dictionaries({path: st.sampled_from(values) for path, values in CHOICES.items()})


def unchecked(settings):
    """A config as it would be if nothing were refused."""
    whole = config({})
    for path, value in settings.items():
        whole = put(whole, path.split("."), value)
    return whole


def put(room, path, value):
    name, *rest = path
    return room.model_copy(update={name: put(getattr(room, name), rest, value) if rest else value})


def default_of(path):
    return reduce(getattr, path.split("."), config({}))


@hypothesis.given(ANY_SETTINGS)
@hypothesis.settings(max_examples=300, deadline=None)
def test_a_refused_config_names_fields_and_changing_them_removes_the_refusal(settings):
    sentences = refusals(unchecked(settings))
    if not sentences:
        config(settings)
        return
    message = refused(settings)
    for sentence in sentences:
        assert sentence in message
        named = PATHS.findall(sentence)
        assert named, sentence
        mended = unchecked({**settings, **{path: default_of(path) for path in named}})
        assert sentence not in refusals(mended), sentence


def test_the_property_notices_a_refusal_that_names_nothing_that_helps():
    sentence = "loss.kind=bpr has no log-sum to correct; set loss.log_q=none"
    settings = {"loss.kind": "bpr", "loss.log_q": "exact"}
    assert sentence in refusals(unchecked(settings))
    assert sentence in refusals(unchecked({**settings, "loss.remove_accidental_hits": True}))
