"""What the tests of an index are built from: clustered and real vectors, their truth, and how answers are compared.

Letters: B queries, N candidates, D width, K results, M candidates proposed, C centres.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retrieval_contract.arrays import BoolArray, Float32Array, Int32Array, TopK, Vectors
from retrieval_contract.indexes.attributes import Attributes, Filter
from retrieval_contract.indexes.protocol import Index

DIGEST = "d" * 64
SIFT = Path(os.environ.get("TWO_TOWER_SHARED", "../shared")) / "data" / "sift-5k"


@dataclass(frozen=True, slots=True)
class Case:
    """An index, and what it was built from and is asked."""

    index: Index
    values_ND: Float32Array  # noqa: N815
    queries_BD: Float32Array  # noqa: N815
    """Or [B, I, D]."""

    def search(
        self,
        k: int,
        excluded: list[Int32Array] | None = None,
        filters: list[Filter | None] | None = None,
        allowed: BoolArray | None = None,
    ) -> TopK:
        """Ask the case's queries."""
        return self.index.search(
            self.queries_BD, k, weights_digest=DIGEST, excluded=excluded, filters=filters, allowed=allowed
        )

    def truth(self, k: int, excluded: list[Int32Array] | None = None, allowed_BN: BoolArray | None = None) -> TopK:
        """Sort everything: scores in float64 rounded to float32, of several vectors the largest, ties by the row."""
        queries_BID = self.queries_BD.reshape(len(self.queries_BD), -1, self.values_ND.shape[1])
        scores_BIN = np.einsum("bid,nd->bin", *(x.astype(np.float64) for x in (queries_BID, self.values_ND)))
        scores_BN = scores_BIN.max(axis=1).astype(np.float32)
        for place, rows in enumerate(excluded or []):
            scores_BN[place, rows] = -np.inf
        if allowed_BN is not None:
            scores_BN[~allowed_BN] = -np.inf
        rows_BK = np.argsort(-scores_BN, axis=1, kind="stable")[:, :k].astype(np.int32)
        scores_BK = np.take_along_axis(scores_BN, rows_BK, axis=1)
        return TopK(rows=np.where(np.isfinite(scores_BK), rows_BK, -1), scores=scores_BK)


def vectors_of(values_ND: Float32Array) -> Vectors:
    """Vectors with ids that are not ASCII, so that every test carries them."""
    ids = tuple(f"кино {row} 映画\n" for row in range(len(values_ND)))
    return Vectors(ids=ids, values=values_ND, weights_digest=DIGEST)


def planted_attributes(num_candidates: int) -> Attributes:
    """Attributes by the row: its parity, its remainder by 7 as `week`, and one in 1,000 is tagged `rare`."""
    rows = np.arange(num_candidates)
    parity = np.where(rows % 2, "odd", "even")
    tags = [["rare"] if row % 1_000 == 5 else ["common", "plain"] for row in rows]
    return Attributes(pa.table({"parity": parity, "week": (rows % 7).astype(str), "tags": tags}))


def clustered(num_candidates: int, num_queries: int, dim: int = 32) -> tuple[Float32Array, Float32Array]:
    """Candidates around centres, as trained towers give them, and queries from the same centres."""
    generator = np.random.default_rng(7)
    centres_CD = generator.standard_normal((num_candidates // 50, dim))
    at_N, at_B = (generator.integers(len(centres_CD), size=size) for size in (num_candidates, num_queries))
    values_ND = centres_CD[at_N] + 0.5 * generator.standard_normal((num_candidates, dim))
    queries_BD = centres_CD[at_B] + 0.5 * generator.standard_normal((num_queries, dim))
    return values_ND.astype(np.float32), queries_BD.astype(np.float32)


def recall(rows_BM: Int32Array, true_rows_BK: Int32Array) -> float:
    """Share of the true rows that are among the given ones."""
    return float((true_rows_BK[:, :, None] == rows_BM[:, None, :]).any(axis=2).mean())


def assert_same(found: TopK, true: TopK) -> None:
    """Rows and scores are the same to the bit."""
    np.testing.assert_array_equal(found.rows, true.rows)
    np.testing.assert_array_equal(found.scores, true.scores)


def sift_case(build: Callable[[Float32Array, Float32Array], Case]) -> tuple[Case, Int32Array]:
    """Nearest neighbours as inner products: |q - v|^2 is least where <[q, 512], [v, (c - |v|^2) / 1024]> is largest.

    All of it is exact in float32: integers, and a division by a power of two. c is about the mean of |v|^2, so that the
    added coordinate stays small; zeros fill up to a width that PQ can divide.
    """
    base, queries = (pq.read_table(SIFT / f"{name}.parquet") for name in ("base", "queries"))
    base_ND, query_BD = (np.array(table["vector"].to_pylist(), np.float32) for table in (base, queries))
    squares_N = (base_ND.astype(np.float64) ** 2).sum(axis=1)
    added_N = (squares_N.mean().round() - squares_N) / 1_024
    values_ND = np.column_stack([base_ND, added_N, np.zeros((len(base_ND), 7))]).astype(np.float32)
    queries_BD = np.column_stack([query_BD, np.full(len(query_BD), 512), np.zeros((len(query_BD), 7))]).astype(
        np.float32
    )
    row_of = {id_: row for row, id_ in enumerate(base["id"].to_pylist())}
    true_rows_BK = np.array([[row_of[id_] for id_ in ids] for ids in queries["gt_ids"].to_pylist()], np.int32)
    return build(values_ND, queries_BD), true_rows_BK
