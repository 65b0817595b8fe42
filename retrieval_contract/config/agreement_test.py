"""Features that stand or point where they cannot: the sentence names the feature and both values."""

from typing import Any

import pytest

from retrieval_contract.config import (
    AffinityFeature,
    CategoricalFeature,
    ComiRecPooling,
    CrossFeature,
    Feature,
    GruPooling,
    HistoryFeature,
    IdFeature,
    MindPooling,
    MultivalentFeature,
    NumericFeature,
    RunConfig,
    TextFeature,
    TimeFeature,
    Tower,
    TransformerPooling,
)

QUERY_ID = IdFeature(name="query_id", width=8)
CANDIDATE = (
    IdFeature(name="candidate_id", width=8),
    CategoricalFeature(name="creator", num_buckets=9, width=8),
    MultivalentFeature(name="genres", width=8),
    CategoricalFeature(name="kind", width=4),
    CategoricalFeature(name="rating", encoding="one_hot", width=8),
    NumericFeature(name="price"),
    TextFeature(name="title", width=8),
)
DEVICE = CategoricalFeature(name="device", at="request", width=8)


def run(*query: Feature, candidate: Any = CANDIDATE, context: Any = None, **rooms: Any) -> RunConfig:
    towers = {"query": tower(query or (QUERY_ID,)), "candidate": tower(candidate)}
    return RunConfig(**towers, context=tower(context), **rooms)


def tower(features: Any) -> Any:
    return Tower(features=features) if isinstance(features, tuple) else features


def history(**settings: Any) -> HistoryFeature:
    return HistoryFeature(**{"name": "past", "width": 8, **settings})


GRU = history(pooling=GruPooling())
ALL = {"positions": "all"}
KNOWN = r"\['candidate_id', 'creator', 'genres', 'kind', 'price', 'rating', 'title'\]"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        # places
        (lambda: run(candidate=(QUERY_ID, history())), r"a history belongs to a query; .* cannot have one \('past'\)"),
        (
            lambda: run(candidate=(*CANDIDATE, AffinityFeature(name="a", of="genres", width=9))),
            r"an affinity belongs to a query; the candidate tower cannot have one \('a'\)",
        ),
        (
            lambda: run(candidate=(DEVICE,)),
            "'device' has at=request, and a candidate's vector is made before any request",
        ),
        (
            lambda: run(candidate=CANDIDATE[1:], model={"candidate_bias": True}),
            "candidate_bias needs a feature of kind id in the candidate tower",
        ),
        (
            lambda: run(context=(DEVICE, QUERY_ID)),
            "'query_id' of kind id is none of the request; the context tower takes",
        ),
        (lambda: run(context=(history(),)), "'past' of kind history is none of the request"),
        (lambda: run(context=(NumericFeature(name="age"),)), "'age' of kind numeric is none of the request"),
        (
            lambda: run(CategoricalFeature(name="context"), context=(DEVICE,)),
            "query feature 'context' has the name that the context tower's features stand under",
        ),
        # affinities
        (
            lambda: run(AffinityFeature(name="a", of="genre", width=9)),
            f"'a' is of 'genre', which is absent from the candidate tower.*there are {KNOWN}",
        ),
        (lambda: run(AffinityFeature(name="a", of="price", width=9)), "'a' is of 'price', which is of kind numeric in"),
        (lambda: run(AffinityFeature(name="a", of="creator", width=9)), "'creator', which hashes into 9 buckets in"),
        (lambda: run(AffinityFeature(name="a", of="candidate_id", width=9)), "'candidate_id', which is of kind id in"),
        # histories
        (
            lambda: run(history(fields=("genre",))),
            f"'past' has the field 'genre', which is absent from the candidate tower; there are {KNOWN}",
        ),
        (
            lambda: run(history(fields=("candidate_id",))),
            "the field 'candidate_id', which is the candidate's id, which ids",
        ),
        (
            lambda: run(history(fields=("kind",), shares=True)),
            "'past' of width 8 shares the table of 'kind', whose width is 4; make them equal",
        ),
        (lambda: run(history(width=6, shares=True)), "'past' of width 6 shares ids, .* has 'candidate_id' of width 8"),
        (
            lambda: run(history(shares=True), candidate=CANDIDATE[1:]),
            "'past' of width 8 shares ids, and the candidate tower has no feature of kind id",
        ),
        # shared tables
        (
            lambda: run(candidate=(*CANDIDATE, CategoricalFeature(name="k", shares="kind", width=4))),
            "'k' shares 'kind' within its own tower; unset shares",
        ),
        (
            lambda: run(CategoricalFeature(name="k", shares="kinds", width=8)),
            f"'k' of width 8 shares 'kinds', which is absent from the candidate tower; there are {KNOWN}",
        ),
        (
            lambda: run(CategoricalFeature(name="k", shares="kind", width=8)),
            "'k' of width 8 shares 'kind', which has a table of width 4 in",
        ),
        (
            lambda: run(context=(DEVICE.model_copy(update={"shares": "title"}),)),
            "'device' of width 8 shares 'title', which is of kind text and has no vocabulary's table in",
        ),
        (
            lambda: run(IdFeature(name="k", shares="rating", width=8)),
            "'rating', which is of kind categorical and has no",
        ),
        # interests
        (
            lambda: run(history(pooling=MindPooling()), history(name="b", pooling=ComiRecPooling())),
            r"histories \['past', 'b'\] give several vectors each; one of them may",
        ),
        (
            lambda: RunConfig(
                query=Tower(features=(QUERY_ID, history(pooling=MindPooling())), combine="sum"),
                candidate=Tower(features=CANDIDATE),
            ),
            "'past' gives several vectors, and combine=sum adds one; use concat",
        ),
        (
            lambda: run(history(pooling=MindPooling()), training={"chunk_size": 4}),
            "chunk_size caches one vector a query, and history 'past' gives several",
        ),
        # positions
        (lambda: run(GRU, training={"sort_by_length": 5}), "sort_by_length sorts whole histories; set .*positions=all"),
        (
            lambda: run(GRU, QUERY_ID, training=ALL),
            r"positions=all predicts at every place of one history.*got \['past \(history\)', 'query_id \(id\)'\]",
        ),
        (lambda: run(history(), training=ALL), "with pooling gru or transformer"),
        (lambda: run(GRU, context=(DEVICE,), training=ALL), "no other query feature or context tower"),
        (lambda: run(GRU, training={**ALL, "chunk_size": 8}), "chunk_size cuts batches of single examples"),
        (
            lambda: RunConfig(
                query=Tower(features=(GRU,), hidden_dims=(4,), norm="batch"),
                candidate=Tower(features=CANDIDATE),
                training=ALL,
            ),
            "query.norm=batch would mix the places of a history",
        ),
        # batch norm
        (
            lambda: normed(training={"chunk_size": 8}),
            "candidate.norm=batch needs the whole batch at once; unset training.ch",
        ),
        (
            lambda: normed(negatives={"bank": {"num_batches": 2, "momentum": 0.9}}),
            "candidate.norm=batch has statistics that no moving average of weights fits",
        ),
        (lambda: normed(optimizer={"accumulation_steps": 2}), "candidate.norm=batch counts a step's batches apart"),
    ],
)
def test_a_feature_in_the_wrong_place_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def normed(**rooms: Any) -> RunConfig:
    candidate = Tower(features=CANDIDATE, hidden_dims=(4,), norm="batch")
    return RunConfig(query=Tower(features=(QUERY_ID,)), candidate=candidate, **rooms)


def test_features_in_their_places_are_taken():
    config = run(
        QUERY_ID,
        CategoricalFeature(name="favourite", shares="creator", width=8),
        AffinityFeature(name="taste", of="rating", width=9),
        history(fields=("genres", "creator", "price", "rating"), shares=True),
        history(name="own", width=6, fields=("kind", "title", "price")),
        DEVICE,
        CrossFeature(name="both", of=("query_id", "device")),
        context=(
            DEVICE,
            TimeFeature(name="hour", at="request", part="hour"),
            CrossFeature(name="c", of=("device", "hour")),
        ),
    )
    assert list(config.towers) == ["query", "context", "candidate"]
    assert [feature.name for feature in config.query.histories] == ["past", "own"]
    run(history(pooling=TransformerPooling()), training={**ALL, "sort_by_length": 3})


def test_every_sentence_is_said_at_once():
    with pytest.raises(
        ValueError, match=r"'past' has the field 'x'.*; .*'a' is of 'y'|'a' is of 'y'.*; .*the field 'x'"
    ):
        run(history(fields=("x",)), AffinityFeature(name="a", of="y", width=3))
