"""All inputs of all towers: fitted on train positives, saved whole as `features.json`, encoded as `arrays` says.

Each kind has a room of its own beside this one. Letters: E entities, R requests (interactions), B rows asked for.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, Self

import pyarrow as pa
import pydantic

from retrieval_contract.arrays import AnyArray, Entities, FeatureArrays, Int64Array, Interactions, Split
from retrieval_contract.config import (
    Feature,
    HistoryFeature,
    RunConfig,
    Settings,
    Side,
    is_at_request,
    table_width,
)
from retrieval_contract.data.encoding import encode, encode_crosses, in_order
from retrieval_contract.data.feature_table import CANDIDATES, INTERACTIONS, QUERIES, FeatureTable
from retrieval_contract.data.fitted import FittedFeature, difference
from retrieval_contract.data.fitting import fit_from, reads_candidate, vocabulary_source
from retrieval_contract.data.train_tables import TrainTables
from retrieval_contract.errors import UserError
from retrieval_contract.weights.history_names import numbers_of
from retrieval_contract.weights.names import VocabularySizes

__all__ = ["FittedFeature", "FittedFeatures", "fit_features"]

SIDES: tuple[Side, ...] = ("query", "context", "candidate")
FORMAT = 2
"""Version of the file's form: raised when it changes; others are refused."""


class FittedFeatures(Settings):
    """All inputs of all towers, fitted: with the config and the weights, all that serving a run needs."""

    format: Literal[2] = 2
    """Version of this file's form."""
    query: tuple[FittedFeature, ...]
    """Inputs of the query tower, in the config's order."""
    context: tuple[FittedFeature, ...] = ()
    """Inputs of the context tower, in the config's order; none without such a tower."""
    candidate: tuple[FittedFeature, ...]
    """Inputs of the candidate tower, in the config's order."""

    @pydantic.model_validator(mode="after")
    def _shared_vocabularies_agree(self) -> Self:
        for feature in (*self.query, *self.context):
            source = vocabulary_source(feature.spec, self.candidate)
            if source is not None and (feature.values, feature.num_buckets) != (source.values, source.num_buckets):
                raise ValueError(f"feature {feature.name!r}: its vocabulary is not that of {source.name!r}")
        return self

    @property
    def sizes(self) -> VocabularySizes:
        """Rows V of each table that is looked up and not shared, by side and table (`weights.names`)."""
        sides = [side for side in SIDES if self.of(side)]
        return {side: dict(self._tables(side)) for side in sides}

    @property
    def histories(self) -> tuple[FittedFeature, ...]:
        """The query features of kind history: encoded per target, not per entity."""
        return tuple(feature for feature in self.query if feature.kind == "history")

    @property
    def affinities(self) -> tuple[FittedFeature, ...]:
        """The query features of kind affinity: encoded per target too."""
        return tuple(feature for feature in self.query if feature.kind == "affinity")

    def of(self, side: Side) -> tuple[FittedFeature, ...]:
        """Inputs of one tower."""
        return {"query": self.query, "context": self.context, "candidate": self.candidate}[side]

    def feature(self, side: Side, name: str) -> FittedFeature:
        """One input by name."""
        return next(feature for feature in self.of(side) if feature.name == name)

    def _tables(self, side: Side) -> Iterator[tuple[str, int]]:
        """Name and rows of each table of its own that a tower looks up."""
        for feature in self.of(side):
            if table_width(feature.spec):
                yield feature.name, feature.num_rows
            if isinstance(feature.spec, HistoryFeature) and not feature.spec.shares:
                for name in feature.spec.fields:
                    field = self.feature("candidate", name)
                    if not numbers_of(field.spec):
                        yield f"{feature.name}.{name}", field.num_rows

    # ------------------------------------------------------------ as text

    def to_json(self) -> str:
        """The whole state; equal states give equal bytes."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the state that `to_json` wrote.

        Raises:
            UserError: not such a text, cut short, of another format, or a state that is not whole.
        """
        try:
            return cls.model_validate_json(text)
        except pydantic.ValidationError as error:
            _refuse_other_format(text)
            fault = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(step) for step in fault["loc"]) or "the whole text"
            todo = "use the features.json that the run wrote, or train again"
            what = f"not fitted features: {fault['msg']}"
            raise UserError(what, where=f"features.json, {place}", todo=todo) from None

    def check_fits(self, config: RunConfig) -> None:
        """Make sure that these features are the config's, so that weights are not read with another run's vocabulary.

        Raises:
            UserError: the first difference, by side, feature and field, with both values.
        """
        for side in SIDES:
            fitted = [feature.spec for feature in self.of(side)]
            tower = config.towers.get(side)
            wanted = list(tower.features) if tower is not None else []
            for have, want in zip(fitted, wanted, strict=False):
                if have != want:
                    raise _other_run(f"{side} feature {difference(have, want)}")
            if len(fitted) != len(wanted):
                raise _other_run(f"{len(fitted)} {side} features where the config has {len(wanted)}")

    # ------------------------------------------------------------ encoding

    def encode_entities(self, side: Side, entities: Entities, *, data_dir: str | Path = "") -> dict[str, AnyArray]:
        """Encode every entity of one side.

        Histories and affinities are not among the results, they need a time; nor is what a request has.

        Args:
            side: which tower.
            entities: E queries or candidates.
            data_dir: folder that files of dense and text features are relative to (`source.data_dir`).

        Returns:
            By name, in the config's order, leading dimension E; crosses where all their parts are there.

        Raises:
            UserError: a column or file is absent, of another type or width, or holds infinity.
        """
        table = FeatureTable(
            table=entities.table,
            name=CANDIDATES if side == "candidate" else QUERIES,
            side=side,
            num_rows=len(entities.ids),
            ids=entities.ids,
            data_dir=Path(data_dir).expanduser(),
        )
        return self._encode(side, table, [feature for feature in self.of(side) if is_of_entity(feature.spec)])

    def encode_requests(self, side: Side, interactions: Interactions) -> dict[str, AnyArray]:
        """Encode what every interaction knows of its request: features with `at` request.

        Args:
            side: query or context; names have no prefix.
            interactions: R rows.

        Returns:
            By name, in the config's order, leading dimension R; crosses where all their parts are there.

        Raises:
            UserError: a column is absent or of another type, or holds infinity.
        """
        table = FeatureTable(
            table=interactions.table,
            name=INTERACTIONS,
            side=side,
            num_rows=len(interactions.times),
            times=interactions.times,
        )
        return self._encode(side, table, self._of_requests(side))

    def encode_unknown_requests(
        self, side: Side, num_rows: int, times: Int64Array | None = None
    ) -> dict[str, AnyArray]:
        """Encode requests of which nothing is known but perhaps the time: as if all their values were missing.

        Args:
            side: query or context.
            num_rows: requests B.
            times: Unix seconds [B]; None where they are not known either.
        """
        features = self._of_requests(side)
        columns = {feature.spec.column_name: pa.nulls(num_rows) for feature in features}
        table = FeatureTable(table=pa.table(columns), name=INTERACTIONS, side=side, num_rows=num_rows, times=times)
        return self._encode(side, table, features)

    def encode_crosses(self, side: Side, encoded: FeatureArrays) -> dict[str, AnyArray]:
        """Encode a tower's crosses whose parts are all among `encoded`: those of entity and request together."""
        return encode_crosses(self.of(side), encoded)

    def _of_requests(self, side: Side) -> list[FittedFeature]:
        return [feature for feature in self.of(side) if is_at_request(feature.spec)]

    def _encode(self, side: Side, table: FeatureTable, features: list[FittedFeature]) -> dict[str, AnyArray]:
        encoded: dict[str, AnyArray] = {}
        for feature in features:
            encoded |= encode(feature, table)
        return in_order(self.of(side), encoded | self.encode_crosses(side, encoded))


def fit_features(
    config: RunConfig, interactions: Interactions, queries: Entities, candidates: Entities, split: Split
) -> FittedFeatures:
    """Learn vocabularies and scales from the train positives and nothing else.

    Args:
        config: the run.
        interactions: all rows.
        queries: all queries.
        candidates: all candidates.
        split: which rows train.

    Returns:
        The fitted inputs of all towers.

    Raises:
        UserError: a column is absent or of another type, holds infinity, or has fewer than two values; a vocabulary is
            larger than the places that a one-hot or an affinity has; times are needed and there are none.
    """
    tables = TrainTables(config, interactions, queries, candidates, split)
    return complete(config, tuple(tables.fit("candidate", spec) for spec in config.candidate.features), tables.fit)


def complete(
    config: RunConfig, candidate: tuple[FittedFeature, ...], fit: Callable[[Side, Feature], FittedFeature]
) -> FittedFeatures:
    """Fit the features of the other towers, which may read the candidate tower's.

    Args:
        config: the run.
        candidate: fitted features of the candidate tower.
        fit: fits a feature that reads no other one.
    """

    def fitted(side: Side) -> tuple[FittedFeature, ...]:
        specs = config.towers[side].features if side in config.towers else ()
        return tuple(fit_from(spec, candidate) if reads_candidate(spec) else fit(side, spec) for spec in specs)

    return FittedFeatures(query=fitted("query"), context=fitted("context"), candidate=candidate)


def is_of_entity(spec: Feature) -> bool:
    """True where an entity has the feature by itself: it is read from a column of its table, or is its id."""
    return not is_at_request(spec) and spec.kind not in ("history", "affinity", "cross")


def _other_run(difference: str) -> UserError:
    return UserError(
        f"the fitted features are another run's: {difference}",
        where="features.json",
        todo="use the config.yaml and features.json of one workdir",
    )


def _refuse_other_format(text: str) -> None:
    """Name the format of a state that another version wrote."""
    try:
        tree = json.loads(text)
    except ValueError:
        return
    found = tree.get("format") if isinstance(tree, dict) else None
    if isinstance(found, int) and found != FORMAT:
        raise UserError(
            f"fitted features of format {found}, and this version reads format {FORMAT}",
            where="features.json",
            todo="train again with this version, or open the run with the one that wrote it",
        )
