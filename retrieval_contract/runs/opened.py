"""A finished run, opened from its workdir: configuration, data, weights and encoders, ready to answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrieval_contract.arrays import Float32Array, Int32Array, Vectors
from retrieval_contract.config import RunConfig
from retrieval_contract.data.prepare import PreparedData, prepare
from retrieval_contract.errors import UserError
from retrieval_contract.evaluation.report import Report, evaluate
from retrieval_contract.indexes.attributes import Attributes
from retrieval_contract.indexes.protocol import Index
from retrieval_contract.runs.workdir import Workdir
from retrieval_contract.stack import Encoders, Stack
from retrieval_contract.vectors.store import read_vectors
from retrieval_contract.weights.archive import read_weights
from retrieval_contract.weights.names import LOG_TEMPERATURE, SIGMOID_BIAS, parameter_table

QUERIES_AT_ONCE = 16_384
"""Queries whose features are made at once, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedRun:
    """Everything that answers questions about a run."""

    workdir: Workdir
    config: RunConfig
    prepared: PreparedData
    encoders: Encoders
    weights_digest: str
    learned: tuple[str, ...]
    """What the loss has learned, for the report's reader."""

    def candidate_vectors(self) -> Vectors:
        """Vectors of the whole catalogue: from the store where it holds those of these weights, else encoded anew."""
        ids = self.prepared.candidates.ids
        if self.workdir.vectors.is_dir():
            stored = read_vectors(self.workdir.vectors)
            if stored.weights_digest == self.weights_digest and stored.ids == ids:
                return stored
        values = self.encoders.encode_candidates(self.prepared.candidate_features())
        return Vectors(ids=ids, values=values, weights_digest=self.weights_digest)

    def attributes(self) -> Attributes:
        """What requests may filter by, of the whole catalogue.

        Raises:
            UserError: `index.attributes` names a column that candidates do not have, or that is no text.
        """
        return Attributes.from_table(self.prepared.candidates.table, self.config.index.attributes)

    def index(self, kind: type[Index]) -> Index:
        """The run's index of a backend, where it was built of these weights and candidates; else a new one.

        Raises:
            UserError: it is damaged, or the settings do not fit.
        """
        folder = self.workdir.index(kind.backend)
        if folder.is_dir():
            built = kind.load(folder)
            if built.weights_digest == self.weights_digest and built.ids == self.prepared.candidates.ids:
                return built
        return kind.build(self.candidate_vectors(), self.config.index, self.attributes())

    def query_vectors(self, query_rows: Int32Array) -> Float32Array:
        """Vectors [B, D] or [B, I, D] of queries as they stand after all train rows, whatever their requests."""
        return self.encoders.encode_queries(self.prepared.query_features(query_rows, None))


def open_run(stack: Stack, config: RunConfig, workdir: Workdir) -> OpenedRun:
    """Open a run that either stack has trained.

    Raises:
        UserError: a file of the run is missing or damaged, or the data changed.
    """
    if not workdir.features.is_file():
        raise UserError("features.json is missing", where=str(workdir.path), todo="train into this workdir first")
    prepared = prepare(config, features_json=_read(workdir.features))
    sizes = prepared.features.sizes
    weights, digest = read_weights(workdir.weights, parameter_table(config, sizes))
    return OpenedRun(
        workdir=workdir,
        config=config,
        prepared=prepared,
        encoders=stack.encoders(config, sizes, weights),
        weights_digest=digest,
        learned=learned_notes(weights),
    )


def learned_notes(weights: Mapping[str, Float32Array]) -> tuple[str, ...]:
    """What the loss has learned beside the towers, for the report's reader; nothing where it learns nothing."""
    notes = []
    if LOG_TEMPERATURE in weights:
        notes.append(f"learned temperature {float(np.exp(weights[LOG_TEMPERATURE][0], dtype=np.float64)):.4g}")
    if SIGMOID_BIAS in weights:
        notes.append(f"learned sigmoid bias {float(weights[SIGMOID_BIAS][0]):.4g}")
    return tuple(notes)


def evaluate_encoders(
    config: RunConfig, prepared: PreparedData, encoders: Encoders, *, learned: Sequence[str] = ()
) -> Report:
    """Evaluate two towers exactly over the whole catalogue on the configured held-out part.

    Args:
        config: the run.
        prepared: its data.
        encoders: the towers.
        learned: from `learned_notes`; joins the report's notes.
    """
    query_rows, query_vectors = _evaluated_queries(config, prepared, encoders)
    candidate_vectors = encoders.encode_candidates(prepared.candidate_features())
    return evaluate(config, prepared, query_vectors, candidate_vectors, query_rows=query_rows, notes=learned)


def _evaluated_queries(
    config: RunConfig, prepared: PreparedData, encoders: Encoders
) -> tuple[Int32Array, Float32Array]:
    """Entity rows of the queries of the configured part [E], and their vectors [E, D] or [E, I, D]."""
    part = config.evaluation.part
    query_rows, times = prepared.evaluation_times(part)
    requests = prepared.evaluation_requests(part)
    vectors = []
    # Histories with all that their items carry may be many times as large as the vectors.
    for start in range(0, len(query_rows), QUERIES_AT_ONCE):
        here = slice(start, start + QUERIES_AT_ONCE)
        features = prepared.query_features(query_rows[here], times[here], requests[here], part=part)
        vectors.append(encoders.encode_queries(features))
    return np.asarray(query_rows, np.int32), np.concatenate(vectors)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read: {error}", where=str(path), todo="train again with --overwrite") from None
