import json
import shutil

import numpy as np
import pytest
import torch

from retrieval_contract.arrays import Vectors
from retrieval_contract.config import ComiRecPooling, Tower
from retrieval_contract.data.planted_kinds import kinds_config, kinds_raw
from retrieval_contract.data.prepare import prepare_raw
from retrieval_contract.errors import UserError
from retrieval_contract.manifest import read_manifest, write_manifest
from retrieval_contract.runs.opened import OpenedRun
from retrieval_contract.runs.workdir import Workdir
from retrieval_contract.serving.raw_features import RawQueryEncoder
from retrieval_contract.verbs.export import KIND, write_version
from retrieval_contract.weights.archive import read_weights, write_weights
from retrieval_contract.weights.names import initial_weights, parameter_table
from torch_reference.callables import TwoTowerEncoders
from torch_reference.exported_program import ExportedRetriever, exporting, onnx_models, retriever
from torch_reference.exported_program.retriever import TowerProgram
from torch_reference.inputs import feature_tensors
from torch_reference.stack import STACK

TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}
"""Sums of tens of terms of size 1 in float32, against float64."""
ROWS = {
    "query_id": ["q1", "new", None],
    "country": ["de", None, "fr"],
    "age": [30, None, 41.5],
    "likes": [["Crime", "Drama"], [], ["?"]],
    "device": ["tv", None, "phone"],
    "time": [1_000_000_500, 1_000_000_500, None],
    "history": [["c1", "gone", "c3"], [], ["c5"]],
    "history_times": [[1_000_000_000, 1_000_000_400, 1_000_000_499], [], [0]],
}


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A run of every kind of feature, a context tower and histories, one of several interests; weights are drawn."""
    *features, lately = kinds_config().query.features
    lately = lately.model_copy(update={"pooling": ComiRecPooling(num_interests=3, attention_dim=2)})
    query = Tower(features=(*features, lately), hidden_dims=(6,))
    config = kinds_config(query=query, training={"device": "cpu"}, index={"attributes": ("genres",)})
    prepared = prepare_raw(kinds_raw(), config)
    table = parameter_table(config, prepared.features.sizes)
    workdir = Workdir(tmp_path_factory.mktemp("run"))
    weights = dict(initial_weights(table, seed=1, embedding_stddev=0.5))
    write_weights(workdir.weights, weights, config_digest=config.digest())
    weights, digest = read_weights(workdir.weights, table)
    encoders = TwoTowerEncoders(config, prepared.features.sizes, weights, "cpu")
    return OpenedRun(
        workdir=workdir, config=config, prepared=prepared, encoders=encoders, weights_digest=digest, learned=()
    )


@pytest.fixture(scope="module")
def folder(opened, tmp_path_factory):
    """The exported version, moved to where it was not written."""
    parent = tmp_path_factory.mktemp("model")
    return shutil.move(write_version(STACK, opened, "exact", parent), tmp_path_factory.mktemp("moved") / "here")


@pytest.fixture(scope="module")
def loaded(folder):
    return ExportedRetriever.load(folder)


@pytest.fixture(scope="module")
def queries(opened):
    catalogue = opened.prepared.candidate_features()
    ids = opened.prepared.candidates.ids
    return RawQueryEncoder(opened.prepared.features, candidate_ids=ids, candidate_features=catalogue)


def test_raw_queries_have_the_vectors_of_the_run(opened, loaded, queries):
    for rows in (ROWS, {name: values[:1] for name, values in ROWS.items()}):
        expected = opened.encoders.encode_queries(queries.encode(rows))
        vectors = loaded.embed_query(rows)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, expected, **TOLERANCE)
    assert list(loaded.query_inputs) == list(queries.inputs)


def test_raw_candidates_have_the_vectors_of_the_run(opened, loaded):
    table = opened.prepared.candidates.table
    rows = {name: table[name].to_pylist() for name in loaded.candidate_inputs}
    rows["uploaded"] = [moment.timestamp() for moment in rows["uploaded"]]
    np.testing.assert_allclose(loaded.embed_candidate(rows), opened.candidate_vectors().values, **TOLERANCE)


def test_answers_are_those_of_exact_search(opened, loaded, queries):
    """With exclusions and filters; fewer than k are padded."""
    vectors_BID = opened.encoders.encode_queries(queries.encode(ROWS))
    scores = (vectors_BID @ opened.candidate_vectors().values.T).max(axis=1)
    ids = np.array(opened.prepared.candidates.ids, object)
    found = loaded.retrieve(ROWS, 20)
    assert found.ids == ids[np.argsort(-scores, axis=1, kind="stable")].tolist()
    np.testing.assert_allclose(found.scores, -np.sort(-scores, axis=1), **TOLERANCE)
    excluded = [found.ids[0][:3], [], ["nobody"]]
    crime = {
        id_
        for id_, genres in zip(ids, opened.prepared.candidates.table["genres"].to_pylist(), strict=True)
        if "Crime" in (genres or ())
    }
    fewer = loaded.retrieve(ROWS, 20, excluded_ids=excluded, filters=[None, {"genres": ["Crime"]}, None])
    assert fewer.ids[0] == [*found.ids[0][3:], "", "", ""]
    assert fewer.ids[1] == [id_ for id_ in found.ids[1] if id_ in crime] + [""] * (20 - len(crime))
    assert fewer.ids[2] == found.ids[2]
    assert (fewer.scores[0, 17:] == -np.inf).all()


def test_no_rows_and_wrong_rows(loaded):
    assert loaded.embed_query({}, num_rows=0).shape == (0, 3, loaded.dim)
    with pytest.raises(UserError, match="field 'age', row 1: text where a number is needed"):
        loaded.retrieve({"age": [1, "x"]}, 3)
    with pytest.raises(UserError, match="k is 21"):
        loaded.retrieve({"age": [1]}, 21)


def test_the_manifest_describes_what_the_programs_take(folder):
    programs = read_manifest(folder, KIND)["programs"]
    inputs = programs["query_tower"]["inputs"]
    assert inputs["lately.genres"] == {"dtype": "int64", "shape": [None, None, None]}
    assert inputs["lately.vector"] == {"dtype": "float32", "shape": [None, None, 3]}
    assert inputs["context.device"] == {"dtype": "int64", "shape": [None]}
    assert inputs["age"] == {"dtype": "float32", "shape": [None, 2]}
    assert programs["candidate_tower"]["inputs"]["text"] == {"dtype": "int64", "shape": [None, None]}


def test_onnx_says_the_same(opened, folder, queries):
    onnxruntime = pytest.importorskip("onnxruntime")
    assert read_manifest(folder, KIND)["onnx"]
    session = onnxruntime.InferenceSession(folder / "query_tower.onnx")
    names = [entry.name for entry in session.get_inputs()]
    assert names == list(read_manifest(folder, KIND)["programs"]["query_tower"]["inputs"])
    for num_rows in (1, 3):
        features = queries.encode({name: values[:num_rows] for name, values in ROWS.items()})
        tensors = {name: tensor.numpy() for name, tensor in feature_tensors(features).items()}
        (vectors,) = session.run(["vectors"], {name: tensors[name] for name in names})
        np.testing.assert_allclose(vectors, opened.encoders.encode_queries(features), **TOLERANCE)


def test_without_the_packages_there_is_no_onnx_and_it_is_said(monkeypatch):
    monkeypatch.setattr(onnx_models, "PACKAGES", ("onnx", "no_such_package"))
    assert onnx_models.missing_packages() == ["no_such_package"]
    assert exporting.notes_of(["no_such_package"]) == ["no ONNX: no_such_package not installed (the extra onnx)"]
    assert exporting.notes_of([]) == []


def test_the_runs_own_index_is_taken_where_it_is_of_these_weights(opened):
    kind = STACK.indexes["exact"]
    vectors = opened.candidate_vectors()
    try:
        kind.build(vectors, opened.config.index).save(opened.workdir.index("exact"), measured={"recall": 1.0})
        assert opened.index(kind).measured == {"recall": 1.0}
        other = Vectors(ids=vectors.ids, values=vectors.values, weights_digest="0" * 64)
        kind.build(other, opened.config.index).save(opened.workdir.index("exact"))
        assert opened.index(kind).weights_digest == opened.weights_digest
    finally:
        shutil.rmtree(opened.workdir.indexes)


# ---------------------------------------------------------------- refusals


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


@pytest.mark.parametrize("name", ["query_tower.pt2", "features.json", "catalogue.safetensors", "index/manifest.json"])
def test_a_damaged_file_is_refused_by_name(copy, name):
    path = copy / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=name):
        ExportedRetriever.load(copy)


def rewrite(copy, **fields):
    """The manifest as another writer would have sealed it."""
    known = read_manifest(copy, KIND)
    own = {name: value for name, value in known.items() if name not in ("kind", "format", "files", "sha256")}
    write_manifest(copy, KIND, own | fields)


def test_another_version_of_torch_is_noted(copy, loaded):
    assert loaded.notes == ()
    rewrite(copy, versions={"torch": "1.0"})
    other = ExportedRetriever.load(copy)
    assert other.notes == (f"the programs were written by torch 1.0, and this is {torch.__version__}",)
    np.testing.assert_array_equal(other.embed_query(ROWS), loaded.embed_query(ROWS))


def test_what_does_not_belong_together_is_refused(copy, tmp_path):
    with pytest.raises(UserError, match="no saved export here"):
        ExportedRetriever.load(tmp_path / "nowhere")
    rewrite(copy, weights_digest="0" * 64)
    with pytest.raises(UserError, match="built from other weights than the towers"):
        ExportedRetriever.load(copy)
    rewrite(copy, stack="tfrs_models")
    with pytest.raises(UserError, match="exported by tfrs_models, not torch_reference"):
        ExportedRetriever.load(copy)


def test_a_program_that_torch_cannot_read_is_refused(copy):
    (copy / "query_tower.pt2").write_bytes(b"no program")
    with pytest.raises(UserError, match="cannot read the program"):
        TowerProgram(copy / "query_tower.pt2", ["age"])


def test_the_kind_is_that_of_the_verb():
    assert retriever.KIND == KIND
    assert json.dumps(retriever.STACK) == json.dumps(STACK.name)


def test_the_manifest_of_an_approximate_kind_says_what_it_finds(opened, tmp_path, monkeypatch):
    # The towers have tests of their own, and take seconds to trace and write.
    for name in ("query_program", "candidate_program", "_write"):
        monkeypatch.setattr(exporting, name, lambda *_: None)
    monkeypatch.setattr(exporting, "described", lambda program: {})
    found = read_manifest(write_version(STACK, opened, "faiss", tmp_path), KIND)["recall"]
    assert found["value"] == 1.0 and found["k"] == min(100, len(opened.prepared.candidates.ids))
    assert "test part" in found["queries"]
