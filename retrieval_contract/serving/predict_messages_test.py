import numpy as np
import pytest

from retrieval_contract.serving.http_planted import BASE, predict, refused

FEATURES = {"query_id": "u1", "age": 31, "likes": ["c1", "c2"]}


def test_row_form(client):
    answer = predict(client, {"instances": [FEATURES, {**FEATURES, "query_id": "u2"}], "k": 2})
    best = [{"ids": ["c37", "c33"], "scores": [5.625, 5.125]}, {"ids": ["c38", "c34"], "scores": [5.75, 5.25]}]
    assert answer.json() == {"predictions": best}
    within = predict(client, {"instances": [{**FEATURES, "k": 2}, {**FEATURES, "query_id": "u2", "k": 2}]})
    assert within.json() == answer.json()


def test_column_form(client):
    inputs = {"query_id": ["u1", None], "age": [None, 2], "likes": [[], None], "k": 1}
    answer = predict(client, {"inputs": inputs, "signature_name": "serving_default"}, f"{BASE}/versions/7")
    assert answer.json() == {"outputs": {"ids": [["c37"], ["c39"]], "scores": [[5.625], [9.75]]}}


def test_exclusions_and_filters(client):
    inputs = {
        "query_id": ["u1", "u1"], "age": [0, 0], "likes": [[], []], "k": 2,
        "exclusions": [["c37", "nobody", ""], []],
        "filter.colour": [[""], ["red", ""]],
    }  # fmt: skip
    body = {"inputs": inputs, "signature_name": "retrieve_with_exclusions"}
    assert predict(client, body).json()["outputs"]["ids"] == [["c33", "c39"], ["c38", "c36"]]
    rows = [{name: values[0] for name, values in inputs.items() if name != "k"}]
    body = {"instances": rows, "k": 2, "signature_name": "retrieve_with_exclusions"}
    assert predict(client, body).json()["predictions"][0]["ids"] == ["c33", "c39"]


def test_fewer_than_k_are_padded_with_null_scores(client):
    inputs = {"query_id": ["u1"], "age": [0], "likes": [[]], "k": 2, "filter.colour": [["green"]]}
    answer = predict(client, {"inputs": inputs, "signature_name": "retrieve_with_exclusions"})
    assert answer.json() == {"outputs": {"ids": [["", ""]], "scores": [[None, None]]}}


def test_a_single_output_has_no_name(client):
    body = {"signature_name": "embed_query", "instances": [{**FEATURES, "query_id": None}]}
    assert predict(client, body).json() == {"predictions": [[0, 0, 0, 0, 31]]}
    body = {"signature_name": "embed_candidate", "inputs": {"taste": [2, 3], "colour": ["red", None]}}
    assert predict(client, body).json() == {"outputs": [[0, 0, 1, 0, 100], [0, 0, 0, 1, 100]]}


def test_search_by_vectors_and_a_value_without_its_name(client):
    vectors = np.eye(5)[:2].tolist()
    by_name = predict(client, {"signature_name": "search", "inputs": {"vectors": vectors, "k": 1}})
    assert by_name.json()["outputs"]["ids"] == [["c0"], ["c1"]]
    assert predict(client, {"signature_name": "search", "instances": vectors, "k": 1}).json()["predictions"] == [
        {"ids": ["c0"], "scores": [1]}, {"ids": ["c1"], "scores": [1]},
    ]  # fmt: skip
    interests = {"signature_name": "search", "inputs": {"vectors": [vectors], "k": 2}}
    assert predict(client, interests).json()["outputs"]["ids"] == [["c0", "c1"]]


def test_bytes_come_in_base_64(client):
    inputs = {"query_id": [{"b64": "dTE="}], "age": [0], "likes": [[{"b64": "YzE="}]], "k": 1}
    assert predict(client, {"inputs": inputs}).json()["outputs"]["ids"] == [["c37"]]
    inputs["query_id"] = [{"b64": "?"}]
    assert "query_id" in refused(predict(client, {"inputs": inputs}))


COLUMNS = {"query_id": ["u1"], "age": [0], "likes": [[]], "k": 3}
VECTORS = [[0.0] * 5]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ([], "body: list"),
        ({}, "body: one of instances"),
        ({"inputs": COLUMNS, "instances": []}, "body: one of instances"),
        ({"inputs": COLUMNS, "version": 3}, "version: unknown field"),
        ({"inputs": COLUMNS, "signature_name": "retrieve"}, "signature_name: no signature 'retrieve'"),
        ({"inputs": COLUMNS, "signature_name": ["x"]}, "signature_name: list"),
        ({"inputs": COLUMNS, "k": 3}, "k: stands inside of inputs"),
        ({"inputs": [1]}, "inputs: list"),
        ({"inputs": {**COLUMNS, "ages": [1]}}, "ages: signature serving_default has no input 'ages'; did you mean"),
        ({"inputs": {"query_id": ["u1"], "k": 3}}, "age: missing"),
        ({"inputs": {**COLUMNS, "age": 0}}, "age: number 0 where a list"),
        ({"inputs": {**COLUMNS, "age": ["old"]}}, "field 'age', row 0: text where a number"),
        ({"inputs": {**COLUMNS, "age": [0, 1]}}, "age: 2 rows where query_id has 1"),
        ({"inputs": {"query_id": [], "age": [], "likes": [], "k": 3}}, "query_id: no rows"),
        ({"inputs": {name: [None] * 9 for name in COLUMNS} | {"k": 1}}, "query_id: 9 entries, and 8 are allowed"),
        ({"inputs": {**COLUMNS, "k": 0}}, "k: 0 where the catalogue holds 40"),
        ({"inputs": {**COLUMNS, "k": -1}}, "k: -1"),
        ({"inputs": {**COLUMNS, "k": 41}}, "k: 41"),
        ({"inputs": {**COLUMNS, "k": 31}}, "k: 31, and this server answers 30"),
        ({"inputs": {**COLUMNS, "k": [3]}}, "k: list"),
        ({"inputs": {**COLUMNS, "k": True}}, "k: true or false"),
        ({"inputs": {**COLUMNS, "k": 3.0}}, "k: number 3.0 where a whole number"),
        ({"inputs": {"query_id": ["u1"], "age": [0], "likes": [[]]}}, "k: missing"),
        ({"instances": []}, "instances: not one"),
        ({"instances": [3]}, "instances[0]: number 3 where an object"),
        ({"instances": [FEATURES, {"query_id": "u1"}], "k": 1}, "instances[1].age: instance 1 and instance 0 differ"),
        ({"instances": [{**FEATURES, "k": 1}, {**FEATURES, "k": 2}]}, "k: differs"),
        ({"instances": [{**FEATURES, "k": 1}], "k": 1}, "k: stands both"),
        ({"inputs": {**COLUMNS, "exclusions": [[]]}}, "exclusions: signature serving_default has no input"),
    ],
)  # fmt: skip
def test_faults_of_a_prediction_are_named(client, body, named):
    message = refused(predict(client, body))
    assert named in message
    assert predict(client, {"inputs": COLUMNS}).status_code == 200


@pytest.mark.parametrize(
    ("signature", "inputs", "named"),
    [
        ("retrieve_with_exclusions", {**COLUMNS, "exclusions": [["a"] * 6]}, "exclusions[0]: 6 entries, and 5"),
        ("retrieve_with_exclusions", {**COLUMNS, "exclusions": ["a"]}, "exclusions[0]: text 'a' where a list"),
        ("retrieve_with_exclusions", {**COLUMNS, "exclusions": [[1.5]]}, "exclusions[0][0]: number 1.5 where a text"),
        ("retrieve_with_exclusions", {**COLUMNS, "filter.color": [[]]}, "did you mean 'filter.colour'"),
        ("retrieve_with_exclusions", {**COLUMNS, "filter.colour": [["a"] * 4]}, "filter.colour[0]: 4 entries, and 3"),
        ("search", {"vectors": [[0.0] * 4], "k": 1}, "vectors: shape [1, 4] where vectors have width 5"),
        ("search", {"vectors": [[0.0] * 5, [0.0]], "k": 1}, "vectors: lists of unequal lengths"),
        ("search", {"vectors": [["0"] * 5], "k": 1}, "vectors: entries that are not numbers"),
        ("search", {"vectors": [[None] * 5], "k": 1}, "vectors: entries that are not numbers"),
        ("search", {"vectors": [[0.5] * 5, [0.5] * 4 + [True]], "k": 1}, "vectors: entries that are not numbers"),
        ("search", {"vectors": [[1e300] * 5], "k": 1}, "vectors: entries that are not finite"),
        ("search", {"vectors": [[1e38] * 5], "k": 1}, "overflow"),
        ("search", {"vectors": [], "k": 1}, "vectors: no rows"),
        ("search", {"vectors": [[[]]], "k": 1}, "vectors: shape"),
        ("search", {"vectors": VECTORS, "k": 10**30}, "k"),
        ("embed_query", {"k": 1}, "k: signature embed_query has no input"),
    ],
)
def test_faults_of_other_signatures_are_named(client, signature, inputs, named):
    assert named in refused(predict(client, {"signature_name": signature, "inputs": inputs}))
