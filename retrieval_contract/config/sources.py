"""Where rows come from."""

from typing import Annotated, Literal

from pydantic import Field

from retrieval_contract.config.base import Count, Fraction, NotNegative, Settings


class SimulatedSource(Settings):
    """The embedded default: a seeded generator that knows the true probabilities."""

    kind: Literal["simulated"] = "simulated"
    data_dir: str = ""
    """Not used; kept so that `--data_dir` means the same for every source."""
    num_queries: Count = 2_000
    """Queries (people) in the population."""
    num_candidates: Annotated[int, Field(ge=2)] = 1_000
    """Candidates in the catalogue."""
    num_interactions: Annotated[int, Field(ge=1_000, le=10_000_000)] = 60_000
    """Rows to generate."""
    num_interests: Count = 8
    """Latent interests; a query attends to each with a probability, and a candidate serves some of them."""
    zipf_exponent: NotNegative = 0.8
    """Popularity of the r-th most popular candidate falls as r to the minus this."""
    preference_strength: NotNegative = 4.0
    """Scale of the interests before their softmax, on both sides; 0 makes popularity all there is to learn."""
    drift: NotNegative = 0.3
    """How far interests move over the whole time span, relative to their spread."""
    exposure_bias: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Share of a candidate's popularity that comes from being shown rather than from being liked."""
    cold_query_fraction: Fraction = 0.05
    """Share of queries that first appear in the last tenth of the time span."""
    cold_candidate_fraction: Fraction = 0.05
    """Share of candidates that first appear in the last tenth of the time span."""
    num_genres: Count = 12
    """Genres; a candidate has one to three, drawn from its latent interests."""


class SimulatedVideoSource(Settings):
    """A seeded video service that knows the true probabilities: features of all kinds, watches, likes and shares."""

    kind: Literal["simulated_video"]
    data_dir: str = ""
    """Not used; kept so that `--data_dir` means the same for every source."""
    num_queries: Count = 2_000
    """People."""
    num_candidates: Annotated[int, Field(ge=2)] = 2_000
    """Videos."""
    num_interactions: Annotated[int, Field(ge=1_000, le=10_000_000)] = 100_000
    """Rows: videos started."""
    num_interests: Count = 12
    """Latent interests of people and videos."""
    num_categories: Annotated[int, Field(ge=2)] = 20
    """Categories of videos; each leans to some interests."""
    num_creators: Annotated[int, Field(ge=2)] = 200
    """Creators of videos; each makes videos of few categories."""
    num_countries: Annotated[int, Field(ge=2)] = 60
    """Countries of people, with a long tail."""
    zipf_exponent: NotNegative = 0.8
    """Popularity of the r-th most popular video falls as r to the minus this."""
    preference_strength: NotNegative = 4.0
    """Scale of the interests before their softmax; 0 makes popularity all there is to learn."""
    context_strength: NotNegative = 0.5
    """How far hour, weekday and device move what is watched."""
    drift: NotNegative = 0.3
    """How far interests move over the whole time span, relative to their spread."""
    cold_candidate_fraction: Fraction = 0.05
    """Share of videos that are uploaded in the last tenth of the time span."""
    missing_fraction: Fraction = 0.02
    """Share of attributes left out."""


class MovieLensSource(Settings):
    """MovieLens through TensorFlow Datasets."""

    kind: Literal["movielens"]
    data_dir: str = ""
    """A prepared TFDS directory, or an empty place for TFDS to download into; empty means TFDS's own default."""
    variant: Literal["100k", "1m", "latest-small", "20m", "25m"]
    """Which release."""
    download_dir: str = ""
    """TFDS's download cache; empty means TFDS's default. A cache that holds the archive needs no network."""
    on_bad_rows: Literal["raise", "drop"] = "raise"
    """What to do with rows that cannot be used; `drop` goes on and reports what it dropped."""


class FilesSource(Settings):
    """Parquet, CSV or JSON-lines files; the ending of the name decides the format."""

    kind: Literal["files"]
    data_dir: str = ""
    """Folder that relative file names start from."""
    interactions: str
    """File of interactions, one row each."""
    queries: str | None = None
    """Optional file of query attributes, one row per query."""
    candidates: str | None = None
    """Optional file of candidate attributes, one row per candidate; where given, it is the whole catalogue."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Our name to the file's: query_id, candidate_id, and optionally timestamp, order, rating; others keep theirs."""
    query_columns: dict[str, str] = Field(default_factory=dict)
    """The same for the queries file (query_id)."""
    candidate_columns: dict[str, str] = Field(default_factory=dict)
    """The same for the candidates file (candidate_id, title)."""
    on_bad_rows: Literal["raise", "drop"] = "raise"
    """What to do with rows that cannot be used; `drop` goes on and reports what it dropped."""


Source = Annotated[SimulatedSource | SimulatedVideoSource | MovieLensSource | FilesSource, Field(discriminator="kind")]
