"""The data sets of `benchmarks.negatives`: files, split, towers and step budget; nothing here depends on the strategy.

They are read from `data/` in the folder that TWO_TOWER_SHARED names (`../shared` without it) and never copied.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from retrieval_contract import config as c
from retrieval_contract.errors import UserError

BATCH_SIZE = 512
"""Examples in a batch: small enough that other sources of negatives have something to add."""
WIDTH = 64
CUTOFFS = (10, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """One data set with what is trained on it."""

    name: str
    """Folder under `data`."""
    title: str
    """What reports call it."""
    steps: int
    """Optimiser steps that every strategy gets, chosen so that the whole table takes under an hour."""
    source: c.FilesSource
    split: Literal["temporal", "leave_one_out"]
    query: c.Tower
    candidate: c.Tower

    def config(self) -> c.RunConfig:
        """The run that strategies change: both vectors normalised, summed embeddings, AdamW with a cosine to zero."""
        return c.RunConfig(
            name=self.name,
            source=self.source.model_copy(update={"data_dir": str(shared() / self.name)}),
            split=c.SplitRule(kind=self.split),
            query=self.query,
            candidate=self.candidate,
            model=c.Model(dim=WIDTH, normalize=True),
            optimizer=c.Optimizer(
                kind="adamw", learning_rate=0.02, weight_decay=0.1, warmup_steps=40, schedule="cosine"
            ),
            training=c.Training(epochs=1, batch_size=BATCH_SIZE),
            evaluation=c.Evaluation(cutoffs=CUTOFFS, part="validation", baselines=(), bootstrap_samples=1),
        )

    def check(self) -> None:
        """Refuse a folder that lacks a file.

        Raises:
            UserError: where it was looked for, and what to set.
        """
        for file in filter(None, (self.source.interactions, self.source.candidates)):
            path = shared() / self.name / file
            if not path.is_file():
                todo = "set TWO_TOWER_SHARED to the folder that holds `data`, or leave this set out with --dataset"
                raise UserError(f"no data for {self.title}", where=str(path), todo=todo)


def shared() -> Path:
    """Folder of the data sets."""
    return Path(os.environ.get("TWO_TOWER_SHARED", "../shared")) / "data"


def movietweetings() -> Dataset:
    """Ratings tweeted within half a year; 40 % of the test queries are new, so that most ids become unknown."""
    return Dataset(
        name="movietweetings-100k",
        title="MovieTweetings 100K, temporal",
        steps=300,
        source=_files("ratings", "movies", query="user_id", candidate="movie_id", timestamp="timestamp"),
        split="temporal",
        query=_tower(_query_id(unknown_rate=0.4), _history(20), dropout=0.3),
        candidate=_tower(_candidate_id(), _attributes("genres"), dropout=0.3),
    )


def online_retail() -> Dataset:
    """Invoice lines of known customers; a customer buys a product again, which counts as seen."""
    return Dataset(
        name="online-retail",
        title="Online Retail, temporal",
        steps=600,
        source=_files(
            "transactions",
            "products",
            query="customer_id",
            candidate="stock_code",
            timestamp="timestamp",
            title="description",
        ),
        split="temporal",
        query=_tower(_query_id(unknown_rate=0.3), _history(50), dropout=0.1),
        candidate=_tower(_candidate_id(), dropout=0.1),
    )


def amazon_beauty() -> Dataset:
    """Reviews of people and products with 5 or more: 7 train rows a query, so that a query is its history."""
    return Dataset(
        name="amazon-beauty",
        title="Amazon Beauty, leave one out",
        steps=600,
        source=_files("interactions", "items", query="user_id", candidate="item_id", order="position"),
        split="leave_one_out",
        query=_tower(_history(20), dropout=0.1),
        candidate=_tower(_candidate_id(), _attributes("attributes"), dropout=0.1),
    )


def movielens_1m() -> Dataset:
    """All ratings as positives; the 598 rows without a position, of films with under 5 ratings, are dropped."""
    return Dataset(
        name="ml-1m",
        title="MovieLens 1M, leave one out",
        steps=900,
        source=_files("interactions", "movies", query="user_id", candidate="movie_id", order="position"),
        split="leave_one_out",
        query=_tower(_history(20), dropout=0.1),
        candidate=_tower(_candidate_id(), _attributes("genres"), dropout=0.1),
    )


def _files(interactions: str, candidates: str, *, query: str, candidate: str, **columns: str) -> c.FilesSource:
    """Parquet files; `columns` are time or order of the interactions, and the candidates' title."""
    times = {ours: theirs for ours, theirs in columns.items() if ours != "title"}
    titles = {"title": columns["title"]} if "title" in columns else {}
    return c.FilesSource(
        kind="files",
        interactions=f"{interactions}.parquet",
        candidates=f"{candidates}.parquet",
        columns={"query_id": query, "candidate_id": candidate, **times},
        candidate_columns={"candidate_id": candidate, **titles},
        # Rows without a customer or a position are known of, and said in the notes.
        on_bad_rows="drop",
    )


def _tower(*features: c.Feature, dropout: float) -> c.Tower:
    return c.Tower(features=features, combine="sum", feature_dropout=dropout)


def _query_id(*, unknown_rate: float) -> c.Feature:
    return c.IdFeature(name="query_id", width=WIDTH, unknown_rate=unknown_rate)


def _history(max_length: int) -> c.Feature:
    return c.HistoryFeature(name="history", width=WIDTH, max_length=max_length)


def _candidate_id() -> c.Feature:
    return c.IdFeature(name="candidate_id", width=WIDTH)


def _attributes(column: str) -> c.Feature:
    return c.MultivalentFeature(name=column, width=WIDTH, max_length=6)


DATASETS: dict[str, Dataset] = {
    dataset.name: dataset for dataset in (movietweetings(), online_retail(), amazon_beauty(), movielens_1m())
}
"""By folder, the quickest first."""
