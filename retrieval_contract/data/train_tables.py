"""Where each feature is read from in a run's data, and how many train positives stand behind each row of it.

Letters: E entities, R rows of a table.
"""

from pathlib import Path

import numpy as np

from retrieval_contract.arrays import Entities, Int64Array, Interactions, Split
from retrieval_contract.config import Feature, RunConfig, Side, TimeFeature, is_at_request
from retrieval_contract.data.feature_table import CANDIDATES, INTERACTIONS, QUERIES, FeatureTable
from retrieval_contract.data.fitted import FittedFeature
from retrieval_contract.data.fitting import fit_own
from retrieval_contract.errors import UserError


class TrainTables:
    """The tables of a run as features read them; of the interactions, the train positives alone."""

    def __init__(
        self, config: RunConfig, interactions: Interactions, queries: Entities, candidates: Entities, split: Split
    ) -> None:
        """Count the train positives of every entity.

        Args:
            config: the run.
            interactions: all rows.
            queries: all queries.
            candidates: all candidates.
            split: which rows train.

        Raises:
            UserError: a feature needs times, and the source has only an order.
        """
        _check_times(config, interactions)
        self._interactions = interactions
        self._entities = {QUERIES: queries, CANDIDATES: candidates}
        self._train = split.train[interactions.positive[split.train]]
        self._counts = {
            QUERIES: np.bincount(interactions.query_rows[self._train], minlength=len(queries.ids)),
            CANDIDATES: np.bincount(interactions.candidate_rows[self._train], minlength=len(candidates.ids)),
        }
        self._data_dir = Path(config.source.data_dir).expanduser()
        self.reference_time = float(interactions.times[self._train].max(initial=0)) if len(self._train) else 0.0
        """Unix second of the last train positive."""

    def fit(self, side: Side, spec: Feature) -> FittedFeature:
        """Fit a feature that needs no other one (`fit_own`)."""
        table, counts_R = self.of(side, spec)
        return fit_own(spec, table, counts_R, reference_time=self.reference_time)

    def of(self, side: Side, spec: Feature) -> tuple[FeatureTable, Int64Array]:
        """Rows that a feature is read from, and train positives behind each [R]; of a history the candidates."""
        if is_at_request(spec):
            return self._requests(side, spec), np.ones(len(self._train), np.int64)
        name = CANDIDATES if side == "candidate" or spec.kind == "history" else QUERIES
        entities = self._entities[name]
        table = FeatureTable(
            table=entities.table,
            name=name,
            side=side,
            num_rows=len(entities.ids),
            ids=entities.ids,
            data_dir=self._data_dir,
            elsewhere=self._columns_but_of(name),
        )
        return table, self._counts[name]

    def _requests(self, side: Side, spec: Feature) -> FeatureTable:
        whole = self._interactions.table
        # Where the column is absent, an error lists all there are; a moment needs none.
        present = [spec.column_name] if spec.column_name in whole.column_names else whole.column_names
        present = [] if isinstance(spec, TimeFeature) else present
        return FeatureTable(
            table=whole.select(present).take(self._train),
            name=INTERACTIONS,
            side=side,
            num_rows=len(self._train),
            times=self._interactions.times[self._train],
            elsewhere=self._columns_but_of(INTERACTIONS),
        )

    def _columns_but_of(self, name: str) -> dict[str, list[str]]:
        tables = {table: entities.table for table, entities in self._entities.items()}
        tables[INTERACTIONS] = self._interactions.table
        return {other: table.column_names for other, table in tables.items() if other != name}


def _check_times(config: RunConfig, interactions: Interactions) -> None:
    if interactions.has_timestamps:
        return
    for tower in config.towers.values():
        for spec in tower.features:
            if isinstance(spec, TimeFeature) and (spec.at == "request" or spec.part == "age"):
                raise UserError(
                    f"feature {spec.name!r} needs the time of the interactions, and they have only an order",
                    where=INTERACTIONS,
                    todo="map a column timestamp, or leave the feature out",
                )
