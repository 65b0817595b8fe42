"""Runs of random weights, requests as JSON has them, and what the contract answers to them: for tests of exports.

Every kind of feature is in the run `kinds`; the run `interests` has a query tower of three vectors.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from parity_tests.comparing import assert_same
from parity_tests.tolerances import rule
from retrieval_contract.arrays import Float32Array, TopK
from retrieval_contract.config import HistoryFeature, MindPooling, RunConfig, Tower
from retrieval_contract.data.planted import START
from retrieval_contract.data.planted_kinds import kinds_config, kinds_raw
from retrieval_contract.data.prepare import prepare_raw
from retrieval_contract.indexes.attributes import Attributes, Filter
from retrieval_contract.indexes.exact import ExactIndex
from retrieval_contract.runs.opened import OpenedRun
from retrieval_contract.runs.workdir import Workdir
from retrieval_contract.serving.raw_features import RawQueryEncoder
from retrieval_contract.serving.raw_inputs import RawInput
from retrieval_contract.verbs.export import write_version
from retrieval_contract.weights.archive import write_weights
from retrieval_contract.weights.names import parameter_table
from tfrs_models.preprocessing import MISSING_MOMENT, MISSING_TEXT
from tfrs_models.stack import STACK

NUM_CANDIDATES, NUM_REQUESTS = 300, 1_000
INDEX = {
    "attributes": ("genres", "creator"),
    "scann_brute_force_below": 1,
    "scann_leaves": 20,
    "scann_leaves_to_search": 20,
    "partitioned_partitions": 20,
    "partitioned_searched": 20,
    "partitioned_rescore": 300,
}
"""Settings of the runs' index: partitions, however small the catalogue, and all of them searched."""
MODEL = {"dim": 8, "normalize": True}
"""Vectors of length 1, so that scores have one size and one tolerance."""
Rows = dict[str, list[Any]]


def config_of(name: str) -> RunConfig:
    """The configuration of a run."""
    if name == "kinds":
        # Years as they are would be all that a vector holds, and every candidate would be nearly the same.
        tower = kinds_config().candidate
        features = [f.model_copy(update={"scaling": "z_score"}) if f.name == "views" else f for f in tower.features]
        tamed = tower.model_copy(update={"features": tuple(features)})
        return kinds_config(index=INDEX, model=MODEL, candidate=tamed)
    past = HistoryFeature(name="past", width=8, max_length=6, shares=True, pooling=MindPooling(num_interests=3))
    candidate = kinds_config().candidate.features[0].model_copy(update={"width": 8})
    towers = {"query": Tower(features=(past,)), "candidate": Tower(features=(candidate,)), "context": None}
    return kinds_config(index=INDEX, model=MODEL, **towers)


def opened_run(name: str, folder: Path) -> OpenedRun:
    """Make a run of random weights and open it; its weights lie in the folder."""
    config = config_of(name)
    prepared = prepare_raw(kinds_raw(num_queries=60, num_candidates=NUM_CANDIDATES, num_rows=3_000), config)
    sizes, generator = prepared.features.sizes, np.random.default_rng(0)
    weights = {
        parameter: generator.normal(size=place.shape, scale=0.5).astype(np.float32)
        for parameter, place in parameter_table(config, sizes).items()
    }
    workdir = Workdir(folder)
    digest = write_weights(workdir.weights, weights, config_digest=config.digest())
    encoders = STACK.encoders(config, sizes, weights)
    return OpenedRun(
        workdir=workdir, config=config, prepared=prepared, encoders=encoders, weights_digest=digest, learned=()
    )


def requests(opened: OpenedRun, num_rows: int, seed: int = 0) -> Rows:
    """Draw requests: known and unknown ids and values, nothing here and there, pasts of none to nine candidates."""
    draw = np.random.default_rng(seed)
    tables = (opened.prepared.queries.table, opened.prepared.interactions.table)
    pools = {name: table[name].to_pylist() for table in tables for name in table.column_names}
    pools["query_id"] = [*opened.prepared.queries.ids, "new"]
    rows: Rows = {}
    pasts = [_past(draw, opened.prepared.candidates.ids) for _ in range(num_rows)]
    for name, raw in query_encoder(opened).inputs.items():
        if raw.source == "history":
            rows[name] = [past[name] for past in pasts]
        elif name == "time":
            rows[name] = [None if past["last"] % 5 == 0 else past["last"] + 3_600 for past in pasts]
        else:
            pool = [_plain(value, raw) for value in pools[name]]
            rows[name] = [pool[place] for place in draw.integers(len(pool), size=num_rows)]
    return rows


def _past(draw: np.random.Generator, ids: Sequence[str]) -> dict[str, Any]:
    length = int(draw.integers(10))
    times = np.sort(START + draw.integers(10**6, size=length)).tolist()
    return {
        "history": [ids[row] for row in draw.integers(len(ids), size=length)],
        "history_weights": draw.random(length).tolist(),
        "history_times": times,
        "last": times[-1] if times else START,
    }


def _plain(value: Any, raw: RawInput) -> Any:
    if hasattr(value, "timestamp"):
        return value.timestamp()
    if isinstance(value, float) and np.isnan(value):
        return None
    return [item for item in value if item is not None] if raw.form == "texts" and value is not None else value


def query_encoder(opened: OpenedRun) -> RawQueryEncoder:
    """What a server encodes requests by."""
    prepared = opened.prepared
    ids, catalogue = prepared.candidates.ids, prepared.candidate_features()
    return RawQueryEncoder(prepared.features, candidate_ids=ids, candidate_features=catalogue)


def exact_index(opened: OpenedRun) -> ExactIndex:
    """The contract's index over the run's candidates."""
    attributes = Attributes.from_table(opened.prepared.candidates.table, opened.config.index.attributes)
    return ExactIndex.build(opened.candidate_vectors(), opened.config.index, attributes)


def query_vectors(opened: OpenedRun, rows: Rows) -> Float32Array:
    """Vectors of requests as a server computes them."""
    return opened.encoders.encode_queries(query_encoder(opened).encode(rows))


def as_tensors(opened: OpenedRun, rows: Rows) -> dict[str, tf.Tensor]:
    """The same requests as a signature takes them: lists as rectangles."""
    inputs = query_encoder(opened).inputs
    return {name: _tensor(inputs[name], values) for name, values in rows.items()}


def _tensor(raw: RawInput, values: Sequence[Any]) -> tf.Tensor:
    if raw.form in ("texts", "numbers", "moments"):
        padding: Any = {"texts": "", "numbers": 0.0, "moments": 0}[raw.form]
        lists = [row or [] for row in values]
        longest = max(map(len, lists), default=0)
        flat = [value for row in lists for value in [*row, *[padding] * (longest - len(row))]]
        dtype = {"texts": tf.string, "numbers": tf.float64, "moments": tf.int64}[raw.form]
        return tf.reshape(tf.constant(flat, dtype), [len(values), longest])
    missing: Any = {"text": MISSING_TEXT, "number": np.nan, "moment": MISSING_MOMENT}[raw.form]
    dtype = {"text": tf.string, "number": tf.float64, "moment": tf.int64}[raw.form]
    return tf.constant([missing if value is None else value for value in values], dtype)


def padded_texts(lists: Sequence[Sequence[str]]) -> tf.Tensor:
    """Lists of text as a rectangle padded with ""."""
    longest = max(map(len, lists), default=0)
    flat = [text for row in lists for text in [*row, *[""] * (longest - len(row))]]
    return tf.reshape(tf.constant(flat, tf.string), [len(lists), longest])


def restrictions(num_rows: int, seed: int = 1) -> tuple[list[list[str]], list[Filter]]:
    """Draw excluded ids (unknown ones and repeated ones among them) and filters (none, narrow, impossible)."""
    draw = np.random.default_rng(seed)
    excluded = [
        [f"c{row}" for row in draw.integers(NUM_CANDIDATES + 50, size=size)]
        for size in draw.integers(60, size=num_rows)
    ]
    filters: list[Filter] = [
        {},
        {"genres": ["Drama"]},
        {"creator": ["creator 1 é", "creator 4 é"]},
        {"genres": ["日本"], "creator": ["creator 2 é"]},
        {"genres": ["none"]},
    ]
    return excluded, [filters[place] for place in draw.integers(len(filters), size=num_rows)]


def texts_of(tensor: tf.Tensor) -> NDArray[np.object_]:
    """Text as an array of str."""
    decoded: NDArray[np.object_] = np.vectorize(bytes.decode, otypes=[object])(tensor.numpy())
    return decoded


class ExportedModel:
    """A run, its export, and the contract's answers to its requests."""

    def __init__(self, opened: OpenedRun, kind: str, folder: Path) -> None:
        """Export into a folder."""
        self.opened = opened
        # Moved at once: whatever is asked of the model is asked of a folder that has moved.
        self.folder = write_version(STACK, self.opened, kind, folder / "written").rename(folder / "moved")
        self.signatures = tf.saved_model.load(str(self.folder)).signatures
        self.index = exact_index(self.opened)
        self.rows = requests(self.opened, NUM_REQUESTS)
        self.inputs = as_tensors(self.opened, self.rows)
        self.vectors = query_vectors(self.opened, self.rows)
        self.row_of = {id_: row for row, id_ in enumerate(self.index.ids)}
        vectors_BID = self.vectors.reshape(NUM_REQUESTS, -1, self.index.dim)
        self.scores = np.einsum("bid,nd->bin", vectors_BID, self.opened.candidate_vectors().values).max(axis=1)

    def ask(
        self,
        k: int,
        *,
        num_rows: int = NUM_REQUESTS,
        exclusions: Sequence[Sequence[str]] | None = None,
        filters: Sequence[Filter] = (),
    ) -> tuple[NDArray[np.object_], Float32Array]:
        """Ids and scores of the first requests."""
        inputs = {name: tensor[:num_rows] for name, tensor in self.inputs.items()}
        if exclusions is None:
            answer = self.signatures["serving_default"](k=tf.constant(k), **inputs)
        else:
            names = ("genres", "creator")
            wanted = {f"filter_{name}": padded_texts([one.get(name, []) for one in filters]) for name in names}
            answer = self.signatures["retrieve_with_exclusions"](
                k=tf.constant(k), exclusions=padded_texts(exclusions), **wanted, **inputs
            )
        return texts_of(answer["ids"]), answer["scores"].numpy()

    def expected(
        self,
        k: int,
        *,
        num_rows: int = NUM_REQUESTS,
        exclusions: Sequence[Sequence[str]] | None = None,
        filters: Sequence[Filter] | None = None,
    ) -> TopK:
        """What the contract answers."""
        digest = self.opened.weights_digest
        excluded = None
        if exclusions is not None:
            excluded = [np.asarray([self.row_of[x] for x in ids if x in self.row_of], np.int32) for ids in exclusions]
        return self.index.search(self.vectors[:num_rows], k, weights_digest=digest, excluded=excluded, filters=filters)

    def assert_answers(self, ids: NDArray[np.object_], scores: Float32Array, expected: TopK) -> None:
        """Scores are the contract's, and so are the exact scores of the ids; no id twice."""
        assert ids.shape == scores.shape == expected.rows.shape
        rows = self._rows_of(ids)
        np.testing.assert_array_equal(ids == "", expected.rows < 0)
        assert all(len(set(line) - {""}) == (line != "").sum() for line in ids)
        assert_same(scores, self._exact_scores(rows), expected.scores, rule("answers", "float32"))
        # A query without a past may have the vector zero, to which all candidates are the same.
        apart = (expected.scores[:, 1:] < expected.scores[:, :-1]).all(axis=1)
        assert (rows != expected.rows)[apart].sum() <= 0.01 * rows.size, "near ties are rare"

    def assert_same_ids(self, said: NDArray[np.object_], ids: NDArray[np.object_]) -> None:
        """The same ids, but for one in a thousand whose exact score is the same by the rule."""
        own, other = (self._exact_scores(self._rows_of(x)) for x in (said, ids))
        assert_same(own, other, other, rule("answers", "float32"))
        assert (said != ids).sum() <= 0.001 * ids.size

    def _rows_of(self, ids: NDArray[np.object_]) -> NDArray[np.int64]:
        flat = [self.row_of.get(str(id_), -1) for id_ in ids.ravel()]
        return np.asarray(flat, np.int64).reshape(ids.shape)

    def _exact_scores(self, rows: NDArray[np.int64]) -> Float32Array:
        """Scores that the contract gives to these candidates of the first requests."""
        found = np.take_along_axis(self.scores[: len(rows)], np.maximum(rows, 0), axis=1)
        return np.where(rows < 0, np.float32(-np.inf), found)
