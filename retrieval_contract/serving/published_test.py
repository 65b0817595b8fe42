"""Versions of a planted run on disk: published, loaded, refused."""

import json
import shutil

import numpy as np
import pytest

from retrieval_contract.config import Index
from retrieval_contract.errors import UserError
from retrieval_contract.indexes.attributes import Attributes
from retrieval_contract.indexes.exact import ExactIndex
from retrieval_contract.manifest import write_manifest
from retrieval_contract.runs.opened import open_run
from retrieval_contract.runs.planted import PlantedStack, planted_run
from retrieval_contract.runs.training import train_run
from retrieval_contract.runs.workdir import Workdir
from retrieval_contract.serving.pipeline import answer_all
from retrieval_contract.serving.published import KIND, load_version, publish
from retrieval_contract.serving.question import Question
from retrieval_contract.serving.watching import warm_up

STACK = PlantedStack()


def trained(folder, **rooms):
    config = planted_run(**rooms)
    train_run(STACK, config, Workdir(folder), resume=False, overwrite=False)
    return open_run(STACK, config, Workdir(folder))


def indexed(opened):
    return ExactIndex.build(opened.candidate_vectors(), opened.config.index, opened.attributes())


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("run") / "w", index={"attributes": ("genres",)})


@pytest.fixture(scope="module")
def published(opened):
    return publish(opened, indexed(opened))


@pytest.fixture
def copy(published, tmp_path):
    return shutil.copytree(published, tmp_path / published.name)


def ask(version, **how):
    question = Question(version=version, operation="retrieve", num_rows=1, **{"k": 5, "falls_back": True, **how})
    (answer,) = answer_all([question])
    if isinstance(answer, Exception):
        raise answer
    return answer


def test_numbers_grow_and_nothing_half_written_stays(opened, published):
    again = publish(opened, indexed(opened))
    assert int(again.name) == int(published.name) + 1 and published.parent == again.parent
    assert all(path.name.isdecimal() for path in published.parent.iterdir())
    shutil.rmtree(again)


def test_a_version_answers_as_the_run_does_wherever_it_lies(opened, copy):
    version = load_version(STACK, copy)
    warm_up(version)
    assert version.number == int(copy.name)
    prepared, index = opened.prepared, indexed(opened)
    rows = np.arange(3, dtype=np.int32)
    found = index.search(opened.query_vectors(rows), 5, weights_digest=opened.weights_digest)
    for row, rows_K in zip(rows.tolist(), found.rows, strict=True):
        answer = ask(version, query_rows=[row])
        assert answer.ids == [[index.ids[place] for place in rows_K]] and answer.sources == ["query"]
        same = ask(version, columns={"query_id": [prepared.queries.ids[row]]})
        assert same.ids == answer.ids and same.sources == ["query"]
    stranger = ask(version, columns={"query_id": ["stranger"]})
    assert stranger.sources == ["content"], "the planted tower has a vector for unknown queries"


def test_what_is_known_of_queries_and_candidates(opened, published):
    model, prepared = load_version(STACK, published, shown=["title", "genres"]).model, opened.prepared
    row = int(prepared.interactions.query_rows[prepared.split.train[0]])
    assert model.query_row(prepared.queries.ids[row]) == row and model.query_row("stranger") is None
    assert set(model.seen(row)) == {prepared.candidates.ids[place] for place in prepared.seen()[row].indices}
    table = prepared.candidates.table
    shown = model.fields([prepared.candidates.ids[3], "stranger"])
    assert shown == [{name: table.column(name)[3].as_py() for name in ("title", "genres")}, {}]
    counts = prepared.candidate_counts()
    by_count = [prepared.candidates.ids[place] for place in np.argsort(-counts, kind="stable")]
    assert model.popular(3, [by_count[1]], None).ids == [[by_count[0], *by_count[2:4]]]
    genre = table.column("genres")[3].as_py()[0]
    having = {
        id_
        for id_, genres in zip(prepared.candidates.ids, table.column("genres").to_pylist(), strict=True)
        if genre in genres
    }
    popular = model.popular(50, [], {"genres": [genre]})
    assert set(popular.ids[0]) - {""} == having and np.isneginf(popular.scores[0, len(having) :]).all()


@pytest.mark.parametrize(
    "name", ["config.yaml", "features.json", "weights.safetensors", "index/vectors/ids.json", "manifest.json"]
)
@pytest.mark.parametrize("how", ["missing", "truncated"])
def test_a_damaged_version_is_refused(copy, name, how):
    path = copy / name
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(UserError):
        load_version(STACK, copy)


def test_parts_that_do_not_belong_together_are_refused(opened, copy, tmp_path):
    other = trained(tmp_path / "other", training={"epochs": 1})
    with pytest.raises(UserError, match="other weights"):
        publish(opened, indexed(other))
    assert not (tmp_path / "other" / "versions").exists()
    shutil.rmtree(copy / "index")
    indexed(other).save(copy / "index")
    fields = json.loads((copy / "manifest.json").read_text())
    write_manifest(copy, KIND, {name: fields[name] for name in ("backend", "weights_digest", "size", "dim")})
    with pytest.raises(UserError, match="other weights"):
        load_version(STACK, copy)


def _all_but_the_first(attributes):
    return Attributes(attributes.table.slice(1))


def test_another_catalogue_or_backend_or_column_is_refused(opened, copy):
    vectors = opened.candidate_vectors()
    fewer = type(vectors)(ids=vectors.ids[1:], values=vectors.values[1:], weights_digest=vectors.weights_digest)
    with pytest.raises(UserError, match="other candidates"):
        publish(opened, ExactIndex.build(fewer, opened.config.index, _all_but_the_first(opened.attributes())))
    with pytest.raises(UserError, match=r"other index.attributes .index \[\], configuration \['genres'\]"):
        publish(opened, ExactIndex.build(vectors, Index()))
    with pytest.raises(UserError, match="'tilte' to show"):
        load_version(STACK, copy, shown=["tilte"])
    fields = json.loads((copy / "manifest.json").read_text())
    write_manifest(
        copy, KIND, {"backend": "faiss", **{name: fields[name] for name in ("weights_digest", "size", "dim")}}
    )
    with pytest.raises(UserError, match="no backend 'faiss'"):
        load_version(STACK, copy)
