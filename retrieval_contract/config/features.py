"""Inputs of the towers: one class for each kind of feature.

A feature reads a column of its side's entity table, or, where `at` is `request`, of the interactions: what was known
when the request came (time, device, running averages). Every kind says its `output_width`: how many numbers it gives
to its tower.
"""

import itertools
from typing import Annotated, Literal, Self

import pydantic
from pydantic import Field

from retrieval_contract.config.base import Count, Fraction, Settings
from retrieval_contract.config.histories import HistoryPooling, MeanPooling

ListPooling = Literal["mean", "sum", "sqrt_n", "max"]
"""One vector from the embeddings of a list: `sqrt_n` divides their sum by the root of their number (of the root of the
sum of squared weights, where they have weights); an empty list gives zeros, with `max` too."""
At = Literal["entity", "request"]


class BaseFeature(Settings):
    """What all kinds share."""

    name: str
    """Name of the feature, of its arrays and of its parameters."""
    column: str | None = None
    """Column read; none means the one that is called as the feature."""

    @property
    def column_name(self) -> str:
        """Column read."""
        return self.column or self.name


class BaseLookup(BaseFeature):
    """Kinds that look rows of an embedding table up.

    The vocabulary is fitted on train rows: row 0 is padding, row 1 unknown (and missing), then the values kept, most
    frequent first; or hashed into buckets, for which nothing is fitted.
    """

    width: Count = 32
    """Embedding width."""
    min_count: Count = 1
    """Values seen in fewer train rows than this become unknown."""
    top: Count | None = None
    """Keep only the so many most frequent values; the others become unknown ("other")."""
    num_buckets: Count | None = None
    """Hash the values into so many rows (from row 2 on) instead of a vocabulary; the hash is the same everywhere."""
    shares: str | None = None
    """Query and context only: look up the table of this feature of the candidate tower, whose vocabulary is then this
    one's too; widths must be equal."""

    @pydantic.model_validator(mode="after")
    def _vocabulary_has_one_source(self) -> Self:
        fitted = self.min_count != 1 or self.top is not None
        if self.num_buckets is not None and (fitted or self.shares is not None):
            raise ValueError(f"feature {self.name!r}: num_buckets fits nothing; unset min_count, top and shares")
        if self.shares is not None and fitted:
            raise ValueError(f"feature {self.name!r}: it shares {self.shares!r}, whose min_count and top count")
        return self


class IdFeature(BaseLookup):
    """The entity's own id."""

    kind: Literal["id"] = "id"
    unknown_rate: Fraction = 0.0
    """Share of training examples whose id is replaced by unknown, so that row 1, and with it every candidate that
    training never saw, learns to live from the other features."""

    @property
    def output_width(self) -> int:
        """Numbers given to the tower."""
        return self.width


class CategoricalFeature(BaseLookup):
    """One value out of several."""

    kind: Literal["categorical"] = "categorical"
    at: At = "entity"
    """Where the column is."""
    encoding: Literal["embedding", "one_hot"] = "embedding"
    """Look the value up; or give `width` numbers of which the value's own (row - 2) is 1 and unknown has none, so that
    `width` values at most may be kept."""
    unknown_rate: Fraction = 0.0
    """Share of training examples whose value is replaced by unknown."""

    @pydantic.model_validator(mode="after")
    def _one_hot_has_room(self) -> Self:
        if self.encoding == "one_hot" and (self.shares is not None or (self.num_buckets or self.width) > self.width):
            what = "shares no table" if self.shares is not None else f"has {self.width} places"
            raise ValueError(f"feature {self.name!r}: one_hot {what}; got {self.shares or self.num_buckets}")
        return self

    @property
    def output_width(self) -> int:
        """Numbers given to the tower."""
        return self.width


class MultivalentFeature(BaseLookup):
    """A list of values: genres, tags."""

    kind: Literal["multivalent"] = "multivalent"
    max_length: Count = 20
    """Values kept, the first ones."""
    pooling: ListPooling = "mean"
    """How the embeddings become one."""
    weights_column: str | None = None
    """Column of lists of weights, as long as the values' lists, finite and not negative: mean, sum and sqrt_n weigh the
    values by them; `max` does not look at weights."""

    @property
    def output_width(self) -> int:
        """Numbers given to the tower."""
        return self.width


LookupFeature = IdFeature | CategoricalFeature | MultivalentFeature
"""Kinds with a vocabulary of their own, or hash buckets: what `BaseLookup` is the base of."""


class NumericFeature(BaseFeature):
    """One number.

    `raw` as it is; `z_score` less the mean of train rows, over their standard deviation; `log_z_score` the same behind
    sign(x) log(1 + |x|); `min_max` from the least (0) to the largest (1) train value, others cut off there; `buckets`
    between the given edges and `quantiles` between fitted ones, each bucket with an embedding. What is scaled is cut
    off at 10,000, so that no infinity travels. NaN is missing.
    """

    kind: Literal["numeric"] = "numeric"
    at: At = "entity"
    """Where the column is."""
    scaling: Literal["raw", "z_score", "log_z_score", "min_max", "buckets", "quantiles"] = "z_score"
    """How it is read."""
    edges: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = ()
    """Buckets: where each next bucket begins, rising: 18 belongs to the bucket 18-24 of (18, 25, 35)."""
    num_quantiles: Annotated[int, Field(ge=2)] = 10
    """Quantiles: buckets with equally many train rows each, the i-th beginning at the train value of sorted row
    floor(i R / num_quantiles), counted from 0; fewer where values repeat."""
    width: Count = 8
    """Buckets and quantiles: embedding width."""
    missing: Literal["mean", "zero"] = "mean"
    """A missing value counts as the mean of the scaled train rows (0 of a z-score), or as 0 after scaling. Buckets have
    a row of their own for it."""
    missing_flag: bool = False
    """Give a second number: 1 where the value is missing."""

    @property
    def is_bucketised(self) -> bool:
        """True where it looks an embedding up."""
        return self.scaling in ("buckets", "quantiles")

    @pydantic.model_validator(mode="after")
    def _settings_belong_to_the_scaling(self) -> Self:
        if (self.scaling == "buckets") != bool(self.edges):
            raise ValueError(f"feature {self.name!r}: edges and scaling=buckets need each other; got {self.edges}")
        if any(low >= high for low, high in itertools.pairwise(self.edges)):
            raise ValueError(f"feature {self.name!r}: edges must rise; got {self.edges}")
        if self.is_bucketised and self.missing_flag:
            raise ValueError(f"feature {self.name!r}: {self.scaling} has a row for missing values; unset missing_flag")
        return self

    @property
    def output_width(self) -> int:
        """Numbers given to the tower."""
        return self.width if self.is_bucketised else 1 + int(self.missing_flag)


class TimeFeature(BaseFeature):
    """A moment in UTC; a missing one is unknown, or zeros.

    `hour` and `weekday` (Monday first) are looked up; `hour_cycle`, `weekday_cycle` and `year_cycle` are the sine and
    cosine of the part of the cycle (the day, the week from Monday on, the year of 365.2425 days counted from 1970) that
    is over; `age` is log(1 + days since), z-scored by train rows. An entity's age is counted to the last train row, and
    what lies behind it is 0 days old. A column holds timestamps (UTC where they name no zone), dates or Unix seconds.
    """

    kind: Literal["time"] = "time"
    at: At = "entity"
    """`request` reads the interaction's own time, and no column."""
    part: Literal["hour", "weekday", "hour_cycle", "weekday_cycle", "year_cycle", "age"]
    """What of the moment."""
    width: Count = 8
    """Hour and weekday: embedding width."""

    @property
    def num_values(self) -> int:
        """Values of a part that is looked up; 0 of the others."""
        return {"hour": 24, "weekday": 7}.get(self.part, 0)

    @pydantic.model_validator(mode="after")
    def _age_belongs_to_an_entity(self) -> Self:
        if self.at == "request" and (self.part == "age" or self.column is not None):
            what = "has age 0" if self.part == "age" else "is the interaction's time and has no column"
            raise ValueError(f"feature {self.name!r}: a request {what}; use another part, or at=entity")
        return self

    @property
    def output_width(self) -> int:
        """Numbers given to the tower."""
        return self.width if self.num_values else 1 if self.part == "age" else 2


class TextFeature(BaseFeature):
    """Words, characters or tokens of a text, hashed or numbered, pooled as a list.

    `words` are runs of ASCII letters, digits and everything beyond ASCII, ASCII letters lowered; `characters` are code
    points of the text so lowered; n-grams of them are joined by a blank (words) or nothing (characters) and hashed.
    `tokenizer` takes the ids that a tokenizer file of the `tokenizers` library gives, without special tokens.
    """

    kind: Literal["text"] = "text"
    tokens: Literal["words", "characters", "tokenizer"] = "words"
    """What is counted."""
    ngrams: tuple[Count, ...] = (1, 2)
    """Lengths of n-grams (words, characters); order in the list is by length, then by place."""
    num_buckets: Count = 10_000
    """Rows that n-grams are hashed into; with a tokenizer, one more than its largest id."""
    tokenizer: str | None = None
    """Path of a `tokenizer.json`; relative to the source's `data_dir`."""
    max_length: Count = 64
    """Tokens or n-grams kept, the first ones."""
    width: Count = 32
    """Embedding width."""
    pooling: ListPooling = "mean"
    """How the embeddings become one."""

    @pydantic.model_validator(mode="after")
    def _tokens_have_a_source(self) -> Self:
        if (self.tokens == "tokenizer") != (self.tokenizer is not None):
            raise ValueError(f"feature {self.name!r}: tokens=tokenizer and a tokenizer file need each other")
        if not self.ngrams:
            raise ValueError(f"feature {self.name!r}: ngrams needs one length or more")
        return self

    @property
    def output_width(self) -> int:
        """Numbers given to the tower."""
        return self.width


class DenseFeature(BaseFeature):
    """A vector made elsewhere, one for each entity: from a column of lists, or from a file by id; never trained."""

    kind: Literal["dense"] = "dense"
    file: str | None = None
    """Parquet file with the columns `id` and `vector`, relative to the source's `data_dir`; none reads a column."""
    width: Count
    """Numbers in each vector."""
    projection: Count | None = None
    """Learn a linear map to this width; none gives the vector itself."""
    missing: Literal["refuse", "zeros"] = "refuse"
    """An entity without a vector is refused, or gets zeros."""

    @property
    def output_width(self) -> int:
        """Numbers given to the tower."""
        return self.projection or self.width


class CrossFeature(BaseFeature):
    """One row for each combination of values of other features, hashed.

    The rows that the named features are encoded to, written in decimal with an `x` between, are hashed; it can name
    features of its own tower that look up one row: id, categorical, bucketised numeric, hour and weekday.
    """

    kind: Literal["cross"] = "cross"
    of: tuple[str, ...]
    """Names of two features or more."""
    num_buckets: Count = 1_000
    """Rows that combinations are hashed into."""
    width: Count = 8
    """Embedding width."""

    @pydantic.model_validator(mode="after")
    def _it_crosses_something(self) -> Self:
        if len(set(self.of)) < 2 or len(set(self.of)) != len(self.of) or self.column is not None:
            raise ValueError(f"feature {self.name!r}: a cross names two features or more, and no column; got {self.of}")
        return self

    @property
    def output_width(self) -> int:
        """Numbers given to the tower."""
        return self.width


class AffinityFeature(BaseFeature):
    """How a query's past spreads over the values of a candidate feature, as shares that sum to 1.

    Of the last `max_length` candidates before the target's time, each counts with its interaction's weight, split
    evenly over its values; unknown values do not count. A query without any gets zeros.
    """

    kind: Literal["affinity"] = "affinity"
    of: str
    """A feature of the candidate tower: categorical (embedding or one-hot) or multivalent, with a vocabulary."""
    width: Count
    """Places, one for each value in the vocabulary's order; at least as many as it has values."""
    max_length: Count = 50
    """Candidates of the past that count."""

    @property
    def output_width(self) -> int:
        """Numbers given to the tower."""
        return self.width


class HistoryFeature(BaseFeature):
    """The last candidates before the target's time, oldest first, never a row at or after it.

    A candidate of the history is the sum of: its id's embedding, what it has in `fields`, and its age's embedding. A
    field is a feature of the candidate tower (id excepted): looked up and pooled as there, or, where it is numbers,
    through a learned linear map without bias to `width`.
    """

    kind: Literal["history"] = "history"
    width: Count = 32
    """Width of an item, and of the vector that comes out."""
    max_length: Count = 20
    """Length L: candidates kept, the latest."""
    min_count: Count = 1
    """Candidates seen in fewer train rows than this become unknown."""
    ids: bool = True
    """Look the candidates' ids up."""
    fields: tuple[str, ...] = ()
    """Features of the candidate tower that an item carries besides."""
    shares: bool = False
    """Look ids and fields up in the candidate tower's tables instead of own ones; widths must be equal, and min_count
    is then the candidate id's."""
    age_buckets: Annotated[int, Field(ge=0)] = 0
    """Add an embedding of the item's age: bucket floor(log2(1 + hours before the target)), the last one for all beyond;
    0 adds none."""
    dropout: Fraction = 0.0
    """Dropout on the items, in training."""
    pooling: HistoryPooling = MeanPooling()
    """How the items become one vector, or several."""

    @pydantic.model_validator(mode="after")
    def _items_hold_something(self) -> Self:
        if not self.ids and not self.fields:
            raise ValueError(f"feature {self.name!r}: a history needs ids or fields")
        if len(set(self.fields)) != len(self.fields):
            raise ValueError(f"feature {self.name!r}: a field stands once; got {self.fields}")
        taken = {"ages", "weights", "age"} if self.age_buckets else {"ages", "weights"}
        if strange := sorted(taken & set(self.fields)):
            raise ValueError(
                f"feature {self.name!r}: the names {strange} are the history's own; call the fields otherwise"
            )
        if self.shares and self.min_count != 1:
            raise ValueError(
                f"feature {self.name!r}: it shares the candidate's ids, whose min_count counts; unset its own"
            )
        heads = getattr(self.pooling, "num_heads", 1)
        if self.width % heads:
            raise ValueError(f"feature {self.name!r}: width {self.width} is no multiple of num_heads {heads}")
        return self

    @property
    def num_interests(self) -> int:
        """Vectors that come out."""
        return getattr(self.pooling, "num_interests", 1)

    @property
    def output_width(self) -> int:
        """Numbers given to the tower."""
        return self.width


Feature = Annotated[
    IdFeature
    | CategoricalFeature
    | MultivalentFeature
    | NumericFeature
    | TimeFeature
    | TextFeature
    | DenseFeature
    | CrossFeature
    | AffinityFeature
    | HistoryFeature,
    Field(discriminator="kind"),
]


def is_at_request(feature: Feature) -> bool:
    """True where the feature belongs to the request: known for each interaction, not for each entity."""
    return getattr(feature, "at", "entity") == "request"


def looks_up_one_row(feature: Feature) -> bool:
    """True where the feature is encoded to one row number: id, categorical, buckets, parts of the time, a cross."""
    if isinstance(feature, NumericFeature):
        return feature.is_bucketised
    if isinstance(feature, TimeFeature):
        return bool(feature.num_values)
    return isinstance(feature, IdFeature | CategoricalFeature | CrossFeature)


def table_width(feature: Feature) -> int:
    """Width of the feature's own embedding table; 0 where it has none of its own."""
    if isinstance(feature, CategoricalFeature) and feature.encoding == "one_hot":
        return 0
    if isinstance(feature, BaseLookup):
        return 0 if feature.shares is not None else feature.width
    if isinstance(feature, HistoryFeature):
        return feature.width if feature.ids and not feature.shares else 0
    looks_up = looks_up_one_row(feature) or isinstance(feature, TextFeature)
    return getattr(feature, "width", 0) if looks_up else 0
