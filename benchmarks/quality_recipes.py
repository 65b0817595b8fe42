"""What `benchmarks.quality` measures: recipes, their data sets, and the published figures they are held against.

A recipe is a preset; data sets are read from `data/` in the folder that TWO_TOWER_SHARED names (`../shared` without
it) and never copied.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.negative_datasets import shared
from retrieval_contract.config import RunConfig
from retrieval_contract.config_text import with_settings
from retrieval_contract.errors import UserError
from retrieval_contract.presets import preset


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One preset on its data set."""

    name: str
    """The preset."""
    title: str
    """What reports call the tower."""
    dataset: str
    """Folder under `data`."""
    targets: Mapping[str, float]
    """Published value by metric, to be reached."""
    target_source: str
    """Whose figures they are."""
    headline: bool = False
    """The report's JSON takes this recipe for its data set."""

    def config(self, *, seed: int, settings: Sequence[str] = ()) -> RunConfig:
        """The run, with the data where it is.

        Raises:
            UserError: a setting is refused.
        """
        own = [f"source.data_dir='{shared() / self.dataset}'", f"seed={seed}"]
        return with_settings(preset(self.name), [*settings, *own])

    def check(self) -> None:
        """Refuse a folder that lacks a file.

        Raises:
            UserError: where it was looked for, and what to set.
        """
        path = shared() / self.dataset / "interactions.parquet"
        if not path.is_file():
            todo = "set TWO_TOWER_SHARED to the folder that holds `data`"
            raise UserError(f"no data for {DATASETS[self.dataset].title}", where=str(path), todo=todo)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """What a reader has to know of a data set."""

    title: str
    note: str


DATASETS: Mapping[str, Dataset] = {
    "ml-1m": Dataset(
        title="MovieLens 1M",
        note=(
            "Every rating is a positive. 598 rows of films with under 5 ratings have no place in the order and are "
            "dropped, which leaves a catalogue of 3,416 films. The order within one second is SASRec's, and arbitrary."
        ),
    ),
    "amazon-beauty": Dataset(
        title="Amazon Beauty",
        note=(
            "S3-Rec's files, 5-core. Reviews are dated by the day, and **those of one day stand in the order of the "
            "file**: a part of what is predicted here is that order, in these figures and in the published ones alike."
        ),
    ),
}
"""By folder."""

_DEEPMATCH = "DeepMatch"
RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="movielens_1m_sasrec",
            title="SASRec, full softmax",
            dataset="ml-1m",
            targets={"hit_rate@10": 0.316, "ndcg@10": 0.186},
            target_source="SASRec with 3,000 sampled negatives",
            headline=True,
        ),
        Recipe(
            name="amazon_beauty_sasrec",
            title="SASRec with attributes, sampled softmax",
            dataset="amazon-beauty",
            targets={"hit_rate@10": 0.092, "ndcg@10": 0.053},
            target_source="SASRec with sampled softmax",
            headline=True,
        ),
        Recipe(
            name="movielens_1m_dssm",
            title="DSSM, in-batch, exact logQ",
            dataset="ml-1m",
            targets={"hit_rate@50": 0.355},
            target_source=_DEEPMATCH,
        ),
        Recipe(
            name="movielens_1m_youtube_dnn",
            title="YouTubeDNN, mean history",
            dataset="ml-1m",
            targets={"hit_rate@50": 0.337},
            target_source=_DEEPMATCH,
        ),
        Recipe(
            name="movielens_1m_comirec",
            title="ComiRec-SA, 4 interests",
            dataset="ml-1m",
            targets={"hit_rate@50": 0.436},
            target_source=_DEEPMATCH,
        ),
        Recipe(
            name="movielens_1m_mind",
            title="MIND, 4 interests",
            dataset="ml-1m",
            targets={},
            target_source="",
        ),
    )
}
"""By preset."""
