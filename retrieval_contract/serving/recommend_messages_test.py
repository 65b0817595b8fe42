import pytest

from retrieval_contract.serving.http_planted import ids_of, recommend, refused


def test_a_known_query(client):
    answer = recommend(client, query_id="u1", k=2).json()
    assert answer["model_version"] == "7" and answer["source"] == "query"
    assert answer["results"] == [
        {"id": "c37", "score": 5.625, "fields": {"title": "Title of c37"}},
        {"id": "c33", "score": 5.125, "fields": {"title": "Title of c33"}},
    ]
    assert set(answer["timings_ms"]) == {"parse", "queue", "encode", "search", "fields"}
    assert all(ms >= 0 for ms in answer["timings_ms"].values())
    assert len(ids_of(recommend(client, query_id="u1"))) == 10


def test_what_was_seen_or_is_excluded_or_filtered_out(client):
    assert ids_of(recommend(client, query_id="u1", k=2, exclude_seen=True)) == ["c33", "c29"]
    assert ids_of(recommend(client, query_id="u1", k=2, exclude=["c37", "c39", "what", ""])) == ["c33", "c38"]
    assert ids_of(recommend(client, query_id="u1", k=2, filters={"colour": ["red"]})) == ["c38", "c36"]
    assert ids_of(recommend(client, query_id="u1", k=2, filters={})) == ["c37", "c33"]
    nothing = recommend(client, query_id="u1", k=2, filters={"colour": ["green"]})
    assert ids_of(nothing) == [] and nothing.json()["source"] == "query"


def test_the_answer_says_what_it_rests_on(client):
    def asked(**body):
        answer = recommend(client, k=2, **body)
        return answer.json()["source"], ids_of(answer)

    assert asked(query_id="u2") == ("query", ["c38", "c34"])
    assert asked(features={"query_id": "u2"}) == ("query", ["c38", "c34"])
    assert asked(query_id="u2", features={"age": 40}) == ("query", ["c38", "c34"])
    assert asked(query_id="stranger", features={"age": 40}) == ("content", ["c39", "c38"])
    assert asked(features={"age": 40}) == ("content", ["c39", "c38"])
    assert asked(query_id="stranger") == ("popularity", ["c0", "c1"])
    assert asked(query_id="stranger", exclude=["c0"], filters={"colour": ["red"]}) == ("popularity", ["c2", "c4"])
    assert asked(features={}) == ("popularity", ["c0", "c1"])
    assert asked(query_id="u0") == ("popularity", ["c0", "c1"])


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "query_id: missing, and so are features"),
        ({"query": "u1"}, "query: unknown field 'query'; did you mean 'query_id'?"),
        ({"query_id": ""}, "query_id: an empty text"),
        ({"query_id": 1.5}, "query_id: number 1.5"),
        ({"query_id": None}, "query_id: null"),
        ({"features": []}, "features: list"),
        ({"features": {"ages": 3}}, "features.ages: no feature 'ages'; did you mean 'age'?"),
        ({"features": {"age": "old"}}, "field 'age', row 0: text where a number"),
        ({"query_id": "u1", "k": 0}, "k: 0"),
        ({"query_id": "u1", "k": None}, "k: null"),
        ({"query_id": "u1", "exclude_seen": 1}, "exclude_seen: number 1"),
        ({"query_id": "u1", "exclude": "c1"}, "exclude: text 'c1'"),
        ({"query_id": "u1", "exclude": [["c1"]]}, "exclude[0]: list"),
        ({"query_id": "u1", "exclude": ["c"] * 6}, "exclude: 6 entries"),
        ({"query_id": "u1", "filters": {"color": ["red"]}}, "filters.color: candidates have no attribute 'color'"),
        ({"query_id": "u1", "filters": {"colour": "red"}}, "filters.colour: text 'red'"),
    ],
)
def test_faults_of_a_recommendation_are_named(client, body, named):
    assert named in refused(recommend(client, **body))
