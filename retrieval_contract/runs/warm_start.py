"""A new run that begins where an old one ended: its vocabularies extended, its weights grown to them."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from retrieval_contract.arrays import Float32Array
from retrieval_contract.config import RunConfig
from retrieval_contract.config_text import read_config
from retrieval_contract.data.features import FittedFeatures
from retrieval_contract.data.growth import extended
from retrieval_contract.data.prepare import PreparedData, prepare
from retrieval_contract.errors import UserError
from retrieval_contract.runs.checkpoints import WEIGHTS
from retrieval_contract.runs.content import content_vectors
from retrieval_contract.runs.new_rows import start_from_content, with_new_rows
from retrieval_contract.runs.workdir import Workdir
from retrieval_contract.stack import TrainerState
from retrieval_contract.weights.archive import read_weights
from retrieval_contract.weights.names import embedding_name, initial_weights, parameter_table

FREE = frozenset({"features", "feature_dropout", "dropout", "candidate_bias_start"})
"""Fields of towers and model that a warm start may change, or that are compared apart."""
LOSS = "loss."
"""Prefix of the weights that belong to the loss and not to the towers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmStart:
    """A finished run that another one starts from."""

    workdir: Workdir
    features_json: str
    """Its fitted features."""
    sizes: Mapping[str, Mapping[str, int]]
    """Rows of its tables."""
    weights: Mapping[str, Float32Array]
    """Its weights by canonical name."""

    @classmethod
    def of(cls, folder: Path, config: RunConfig) -> Self:
        """Read a run and make sure that the new one may start from it.

        Args:
            folder: the old run's workdir.
            config: the new run.

        Raises:
            UserError: the folder holds no finished run, or its features, towers or model are others; the first
                difference is named with both values.
        """
        workdir = Workdir(folder)
        for path in (workdir.config, workdir.features, workdir.weights):
            if not path.is_file():
                todo = "name the workdir of a finished run"
                raise UserError(
                    f"no run to start from: {path.name} is missing", where=f"--warm_start={folder}", todo=todo
                )
        old_config = read_config(workdir.config)
        features_json = workdir.features.read_text(encoding="utf-8")
        fitted = FittedFeatures.from_json(features_json)
        fitted.check_fits(old_config)
        _check_features(fitted, config, folder)
        _check_towers(old_config, config, folder)
        weights, _ = read_weights(workdir.weights, parameter_table(old_config, fitted.sizes))
        return cls(workdir=workdir, features_json=features_json, sizes=fitted.sizes, weights=weights)

    def prepare(self, config: RunConfig) -> PreparedData:
        """Load the new run's data, with the old run's features extended by its train rows."""
        prepared = prepare(config, features_json=self.features_json)
        features = extended(
            prepared.features,
            config,
            prepared.interactions,
            prepared.queries,
            prepared.candidates,
            prepared.split,
        )
        return dataclasses.replace(prepared, features=features)

    def first_state(self, config: RunConfig, prepared: PreparedData) -> TrainerState:
        """Trainer state before the first step: grown weights, no slots (the trainer makes them), step 0.

        Old rows and all other weights of the towers keep their bytes. What the loss learns starts from the old run
        where that learned it too.

        Args:
            config: the new run.
            prepared: its data, from `prepare`.
        """
        table = parameter_table(config, prepared.features.sizes)
        fresh = initial_weights(table, seed=config.seed, embedding_stddev=config.training.embedding_stddev)
        old = {name: self.weights[name] if name in self.weights else fresh[name] for name in table}
        longer = {name: table[name].shape[0] for name in table if table[name].shape != old[name].shape}
        weights = with_new_rows(old, longer)
        for name, parameter in table.items():
            assert weights[name].shape == parameter.shape, f"{name} differs in more than rows"
        self._start_new_candidates(weights, config, prepared)
        return {**{WEIGHTS + name: array for name, array in weights.items()}, "step": np.asarray(0, np.int64)}

    def note(self, prepared: PreparedData) -> str:
        """What was taken over, for people."""
        new = prepared.features.sizes
        grown = [
            f"{side} {table} +{rows - self.sizes[side][table]:,}"
            for side, tables in new.items()
            for table, rows in tables.items()
            if rows > self.sizes[side][table]
        ]
        return f"warm start from {self.workdir.path}; new rows: {', '.join(grown) or 'none'}"

    def _start_new_candidates(
        self, weights: dict[str, Float32Array], config: RunConfig, prepared: PreparedData
    ) -> None:
        """Put new candidate ids near those of like content, where they have a row of their own."""
        feature = config.candidate_id_feature
        if feature is None:
            return
        name, encoded = embedding_name("candidate", feature.name), prepared.candidate_features()
        num_old_rows = len(self.weights[name])
        if len(weights[name]) == num_old_rows:
            return
        content_NC = content_vectors(config.candidate, encoded, weights)
        if content_NC is not None:
            rows_N = np.asarray(encoded[feature.name], np.int32)
            start_from_content(weights[name], content_NC, rows_N, num_old_rows=num_old_rows)


def _check_features(fitted: FittedFeatures, config: RunConfig, folder: Path) -> None:
    try:
        fitted.check_fits(config)
    except UserError as error:
        todo = "weights belong to the features they were trained with: keep these, or train anew without --warm_start"
        raise UserError(error.what, where=f"--warm_start={folder}", todo=todo) from None


def _check_towers(old: RunConfig, new: RunConfig, folder: Path) -> None:
    """Refuse towers or a model whose weights would be others, or would mean something else."""
    for place in ("query", "candidate", "context", "model"):
        was, becomes = (_fields(getattr(config, place)) for config in (old, new))
        for field in sorted(was.keys() | becomes.keys()):
            if was.get(field) != becomes.get(field):
                raise UserError(
                    f"{place}.{field} is {was.get(field)!r} in the run to start from and {becomes.get(field)!r} here",
                    where=f"--warm_start={folder}",
                    todo="take the old run's towers and model, or train anew without --warm_start",
                )


def _fields(branch: Any) -> dict[str, Any]:
    return {} if branch is None else {name: value for name, value in branch.model_dump().items() if name not in FREE}
