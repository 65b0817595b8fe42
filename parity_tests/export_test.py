"""An exported SavedModel against what the contract answers: the same ids and scores, whatever the kind of search.

A server encodes requests in NumPy, computes the towers in float64 and searches the exact index; the model does all of
it in a graph and in float32. So a score may differ by the rule `answers`, and where two candidates are closer than
that, either may come first: what is compared is the exact score of the id in each place.
"""

import json
import shutil
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from parity_tests.comparing import assert_same
from parity_tests.exported_models import (
    NUM_CANDIDATES,
    NUM_REQUESTS,
    ExportedModel,
    as_tensors,
    opened_run,
    padded_texts,
    restrictions,
    texts_of,
)
from parity_tests.serving_without_python import answered, compiled
from parity_tests.tolerances import rule
from retrieval_contract.errors import UserError
from retrieval_contract.manifest import read_manifest
from retrieval_contract.verbs.export import KIND
from tfrs_models.indexes.partitioned_index import PartitionedIndex
from tfrs_models.indexes.scann_index import scann_available
from tfrs_models.saved_model.exporting import build_retriever
from tfrs_models.saved_model.scann_search import scann_library

NEEDS_SCANN = pytest.mark.skipif(not scann_available(), reason="ScaNN exists for Linux only")
KINDS = ["exact", "partitioned", pytest.param("scann", marks=NEEDS_SCANN)]
EXPORTED = [
    *(("kinds", "exact"), ("kinds", "partitioned"), pytest.param("kinds", "scann", marks=NEEDS_SCANN)),
    *(("interests", "exact"), ("interests", "partitioned")),
]
"""Runs and kinds; ScaNN with several interests is tested beside it."""
K = 25


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Exported once each."""
    opened = cache(lambda run: opened_run(run, tmp_path_factory.mktemp(run)))
    return cache(lambda run, kind: ExportedModel(opened(run), kind, tmp_path_factory.mktemp(f"{run}_{kind}")))


@pytest.mark.parametrize(("run", "kind"), EXPORTED)
def test_answers_are_those_of_the_contract(models, run, kind):
    model = models(run, kind)
    for k in (1, K):
        model.assert_answers(*model.ask(k), model.expected(k))
    exclusions, filters = restrictions(NUM_REQUESTS)
    restricted = {"exclusions": exclusions, "filters": filters}
    model.assert_answers(*model.ask(K, **restricted), model.expected(K, **restricted))
    for num_rows in (0, 1, 7):
        assert model.ask(3, num_rows=num_rows)[1].shape == (num_rows, 3)
        some = {"num_rows": num_rows, "exclusions": exclusions[:num_rows], "filters": filters[:num_rows]}
        model.assert_answers(*model.ask(K, **some), model.expected(K, **some))


@pytest.mark.parametrize("kind", KINDS)
def test_all_candidates_may_be_asked_for_and_all_excluded(models, kind):
    model = models("kinds", kind)
    model.assert_answers(*model.ask(NUM_CANDIDATES, num_rows=2), model.expected(NUM_CANDIDATES, num_rows=2))
    everything = {"num_rows": 2, "exclusions": [list(model.index.ids), ["", "nobody"]], "filters": [{}, {}]}
    ids, scores = model.ask(K, **everything)
    model.assert_answers(ids, scores, model.expected(K, **everything))
    assert set(ids[0]) == {""} and "" not in ids[1]


def test_export_notices_a_past_turned_round_and_an_exclusion_left_out(models):
    model = models("kinds", "exact")
    exclusions, filters = restrictions(NUM_REQUESTS)
    wanted = model.expected(K, exclusions=exclusions, filters=filters)
    with pytest.raises(AssertionError):
        model.assert_answers(*model.ask(K, exclusions=[ids[1:] for ids in exclusions], filters=filters), wanted)
    turned = as_tensors(model.opened, model.rows | {"history": [ids[::-1] for ids in model.rows["history"]]})
    answer = model.signatures["serving_default"](k=tf.constant(K), **turned)
    with pytest.raises(AssertionError):
        model.assert_answers(texts_of(answer["ids"]), answer["scores"].numpy(), model.expected(K))


def test_vectors_are_the_encoders_and_search_takes_them(models):
    for run in ("kinds", "interests"):
        model = models(run, "exact")
        found = model.signatures["embed_query"](**model.inputs)["vectors"].numpy()
        assert_same(found, model.vectors, model.vectors, rule("forward", "float32"))
        answer = model.signatures["search"](vectors=tf.constant(model.vectors), k=tf.constant(K))
        expected = model.expected(K)
        np.testing.assert_array_equal(texts_of(answer["ids"]), np.asarray(model.index.ids)[expected.rows])
        assert_same(answer["scores"].numpy(), expected.scores, expected.scores, rule("encoders", "float32"))


def test_candidates_are_embedded_as_they_were_for_the_search(models):
    model = models("interests", "exact")
    ids = model.opened.prepared.candidates.ids
    found = model.signatures["embed_candidate"](candidate_id=tf.constant(ids))["vectors"].numpy()
    values = model.opened.candidate_vectors().values
    assert_same(found, values, values, rule("forward", "float32"))


# ---------------------------------------------------------------- without Python


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    if shutil.which("g++") is None:
        pytest.skip("there is no g++ to compile the program with")
    return compiled(tmp_path_factory.mktemp("program"))


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_program_without_python_gives_the_same_ids(models, program, kind, tmp_path):
    model, request = models("kinds", kind), tmp_path / "request"
    libraries = [scann_library()] if kind == "scann" else []
    inputs = {**model.inputs, "k": tf.constant(K)}
    said = answered(program, model.folder, "serving_default", inputs, request=request, libraries=libraries)
    assert len(said) == NUM_REQUESTS == 1_000
    model.assert_same_ids(said, model.ask(K)[0])


def test_a_program_without_python_calls_filters_by_their_names(models, program, tmp_path):
    model, request = models("kinds", "exact"), tmp_path / "request"
    exclusions, filters = restrictions(NUM_REQUESTS)
    names = ("genres", "creator")
    wanted = {f"filter.{name}": padded_texts([one.get(name, []) for one in filters]) for name in names}
    inputs = {**model.inputs, **wanted, "k": tf.constant(K), "exclusions": padded_texts(exclusions)}
    said = answered(program, model.folder, "retrieve_with_exclusions", inputs, request=request, libraries=())
    model.assert_same_ids(said, model.ask(K, exclusions=exclusions, filters=filters)[0])
    with pytest.raises(AssertionError):
        model.assert_same_ids(said, model.ask(K)[0])


# ---------------------------------------------------------------- the folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_moved_folder_holds_no_path(models, kind):
    model = models("kinds", kind)
    assert read_manifest(model.folder, KIND)["backend"] == kind
    for path in model.folder.rglob("*"):
        assert not path.is_file() or str(model.folder.parent).encode() not in path.read_bytes(), path


@pytest.mark.parametrize("name", ["variables/variables.data-00000-of-00001", "saved_model.pb"])
def test_a_truncated_file_is_refused(models, name, tmp_path):
    folder = shutil.copytree(models("kinds", "exact").folder, tmp_path / "1")
    (folder / name).write_bytes((folder / name).read_bytes()[:-10])
    with pytest.raises(UserError, match=f"truncated or damaged .*{name}"):
        read_manifest(folder, KIND)


@pytest.mark.parametrize("kind", KINDS)
def test_the_manifest_says_what_a_caller_and_a_server_need(models, kind):
    model = models("kinds", kind)
    manifest = read_manifest(model.folder, KIND)
    inputs = {name: set(signature["inputs"]) for name, signature in manifest["signatures"].items()}
    features = set(model.inputs)
    assert inputs["serving_default"] == features | {"k"}
    assert inputs["retrieve_with_exclusions"] == features | {"k", "exclusions", "filter.genres", "filter.creator"}
    assert (inputs["search"], inputs["embed_query"]) == ({"vectors", "k"}, features)
    assert manifest["signatures"]["serving_default"]["inputs"]["k"] == {"dtype": "int32", "shape": []}
    assert (manifest["size"], manifest["weights_digest"]) == (NUM_CANDIDATES, model.opened.weights_digest)
    assert ("op_library" in manifest) == ("scann" in manifest["versions"]) == (kind == "scann")
    assert json.dumps(manifest["needs"])
    # These runs search all partitions.
    assert manifest.get("recall", {}).get("value") == (None if kind == "exact" else 1.0)
    if kind != "exact":
        assert "queries of the test part" in manifest["recall"]["queries"] and manifest["recall"]["k"] == 100


def test_the_settings_are_those_of_what_is_searched(tmp_path):
    """An index of the same weights and other candidates gives none: a new one is built by the run's own."""
    opened = opened_run("kinds", tmp_path)
    folder, tuned = (
        opened.workdir.index("partitioned"),
        opened.config.index.model_copy(update={"partitioned_searched": 7}),
    )
    vectors = opened.candidate_vectors()
    for ids, searched in ((vectors.ids, 7), (tuple(f"{id_}-other" for id_ in vectors.ids), 20)):
        PartitionedIndex.build(replace(vectors, ids=ids), tuned).save(folder)
        _, settings = build_retriever(opened, "partitioned")
        assert settings.partitioned_searched == searched


def ops_of(folder):
    """Names of all ops in the graph and in its functions, less the functions themselves."""
    model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    graph = model.meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    return {node.op for node in nodes} - {function.signature.name for function in graph.library.function}


@pytest.mark.parametrize(("run", "kind"), EXPORTED)
def test_only_scann_needs_more_than_the_ops_of_tensorflow(models, run, kind):
    ops = ops_of(models(run, kind).folder)
    assert {"MatMul", "TopKV2", "LookupTableFindV2", "Assert"} <= ops
    # A list that is part of TensorFlow's package: ops that a library adds are never in it.
    strange = {op for op in ops if not hasattr(tf.raw_ops, op)}
    assert strange == ({"Scann>ScannSearchBatched", "Scann>TensorsToScann"} if kind == "scann" else set())
    assert not {op for op in ops if "PyFunc" in op}


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [0, -1, NUM_CANDIDATES + 1])
def test_a_k_that_cannot_be_is_refused_with_both_numbers(models, kind, k):
    for signature in ("serving_default", "search"):
        model = models("kinds", kind)
        inputs = model.inputs if signature == "serving_default" else {"vectors": tf.constant(model.vectors)}
        with pytest.raises(tf.errors.InvalidArgumentError, match=rf"k must be 1 to 300, .* and is\] \[{k}\]"):
            model.signatures[signature](k=tf.constant(k), **inputs)


def test_vectors_of_nan_and_unequal_rows_are_refused(models):
    model = models("kinds", "exact")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"input 'vectors'.*NaN"):
        model.signatures["search"](vectors=tf.constant(model.vectors * np.nan), k=tf.constant(1))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"differ in their number of rows: .*\[1 1000 1000"):
        model.signatures["serving_default"](k=tf.constant(1), **model.inputs | {"age": model.inputs["age"][:1]})
