"""RunConfig: everything that decides what a run computes, as one frozen tree with one branch per room.

Unknown keys and wrong types are refused and the nearest key is named. Two runs with the same `digest()` on the same
data compute the same thing; where files lie and which device computes are not part of it.
"""

import hashlib
import itertools
import json
import math
from typing import Annotated, Literal, Self

import numpy as np
import pydantic
import yaml
from pydantic import Field

from retrieval_contract.combinations import refusals

PLACES = (("source", "data_dir"), ("training", "device"), ("training", "checkpoint_every_steps"))
"""Fields that say where or how, never what: left out of the digest."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Settings(pydantic.BaseModel):
    """Base of every branch: frozen, keyword-only, strict, documented under each field."""

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, validate_default=True
    )


# ---------------------------------------------------------------- sources


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
    columns: dict[str, str] = {}
    """Our name to the file's: query_id, candidate_id, and optionally timestamp, order, rating; others keep theirs."""
    query_columns: dict[str, str] = {}
    """The same for the queries file (query_id)."""
    candidate_columns: dict[str, str] = {}
    """The same for the candidates file (candidate_id, title)."""
    on_bad_rows: Literal["raise", "drop"] = "raise"
    """What to do with rows that cannot be used; `drop` goes on and reports what it dropped."""


Source = Annotated[SimulatedSource | MovieLensSource | FilesSource, Field(discriminator="kind")]


# ---------------------------------------------------------------- positives, split, features


class Positives(Settings):
    """Which raw row counts as a positive, and how much."""

    rule: Literal["all", "rating_at_least", "engaged"] = "all"
    """Every row; rating at or above `rating_at_least`; or watched above `watched_above`, liked, or shared."""
    rating_at_least: float = 4.0
    """Threshold on the column `rating`."""
    watched_above: float = 0.5
    """Threshold on the column `watched_fraction` (0 to 1)."""
    weight_column: str | None = None
    """Column of sample weights, finite and not negative; none means 1 for every row."""


class SplitRule(Settings):
    """How rows are divided into train, validation and test."""

    kind: Literal["temporal", "leave_one_out", "random", "column"] = "temporal"
    """Global cut in time; each query's last row (test) and last but one (validation); a seeded draw; a given column."""
    validation_fraction: Fraction = 0.1
    """Share of rows for validation (temporal, random)."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of rows for test (temporal, random)."""
    column: str = "split"
    """Column holding `train`, `validation` or `test` (kind `column`)."""
    seed: int = 42
    """Seed of the random split; separate from the run's, so that several seeds share one split."""

    @pydantic.model_validator(mode="after")
    def _something_is_left_to_train_on(self) -> Self:
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("validation_fraction + test_fraction must be below 1, so that train is not empty")
        return self


class Feature(Settings):
    """One input of a tower: a column of its entity table, and how it becomes numbers.

    Kinds: `id` (the entity's own id) and `categorical` (one value) and `multivalent` (a list; mean of the embeddings)
    have a vocabulary fitted on train rows, row 0 padding and row 1 unknown. `numeric` is z-scored by train statistics,
    missing becomes 0 after scaling. `history` (query only) is the mean of embeddings of the last candidates before the
    target's time, oldest first, never including a row at or after it.
    """

    name: str
    """Column of the entity table, and the name of the embedding; kinds `id` and `history` need no column."""
    kind: Literal["id", "categorical", "multivalent", "numeric", "history"]
    width: Count = 32
    """Embedding width; a numeric feature is one number and ignores it."""
    min_count: Count = 1
    """Values seen in fewer train rows than this become unknown."""
    max_length: Count = 20
    """Values kept of a multi-valent feature (the first ones) or of a history (the latest ones)."""
    unknown_rate: Fraction = 0.0
    """Kind id only: share of training examples whose value is replaced by unknown, so that row 1 learns."""

    @property
    def has_vocabulary(self) -> bool:
        """True where the feature looks up an embedding table."""
        return self.kind != "numeric"


# ---------------------------------------------------------------- model, loss, optimiser


class Tower(Settings):
    """One encoder: features put together, dropout, hidden layers, a linear layer to the common width where needed."""

    features: tuple[Feature, ...]
    """Inputs, in the order in which they are put together."""
    combine: Literal["concat", "sum"] = "concat"
    """`sum` needs equal widths and no numeric feature."""
    feature_dropout: Fraction = 0.0
    """Dropout on the combined features, in training."""
    hidden_dims: tuple[Count, ...] = ()
    """Widths of the hidden layers; empty means none."""
    activation: Literal["relu", "gelu", "silu", "tanh"] = "relu"
    """Activation of the hidden layers (gelu is the exact form with erf)."""
    dropout: Fraction = 0.0
    """Dropout after each hidden layer, in training."""

    @pydantic.model_validator(mode="after")
    def _features_fit_together(self) -> Self:
        names = [feature.name for feature in self.features]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"a tower needs one feature or more, of distinct names; got {names}")
        if self.combine == "sum":
            if any(feature.kind == "numeric" for feature in self.features):
                raise ValueError("combine=sum cannot add a numeric feature to embeddings; use concat")
            if len({feature.width for feature in self.features}) > 1:
                raise ValueError("combine=sum needs equal widths of all features")
        return self

    @property
    def combined_dim(self) -> int:
        """Width of the features put together."""
        widths = [feature.width if feature.has_vocabulary else 1 for feature in self.features]
        return widths[0] if self.combine == "sum" else sum(widths)

    def projects_to(self, dim: int) -> bool:
        """True where the tower ends in a linear layer to the common width."""
        return bool(self.hidden_dims) or self.combined_dim != dim

    def layer_dims(self, dim: int) -> tuple[tuple[int, int], ...]:
        """(in, out) of every dense layer, the last linear one included, for towers that meet at width `dim`."""
        widths = [self.combined_dim, *self.hidden_dims, *([dim] if self.projects_to(dim) else [])]
        return tuple(itertools.pairwise(widths))


class Model(Settings):
    """How the two vectors become a score."""

    dim: Count = 32
    """Width of both towers' vectors. A tower with hidden layers, or whose features put together have another width,
    ends in a linear layer to this width; an id embedding of exactly this width is the vector itself."""
    normalize: bool = False
    """L2-normalise both vectors, so that the score is a cosine."""
    candidate_bias: bool = False
    """One learned number per row of the candidate-id vocabulary, added to the logits after the temperature."""
    candidate_bias_start: Literal["zeros", "log_popularity"] = "zeros"
    """Where the bias starts: at zero, or at log of the train count less its mean, unknown at 0 (for very cold data)."""


class Streaming(Settings):
    """Estimator of how often a candidate is in a batch, from the batches alone (Yi et al., RecSys 2019, Alg. 2, 3)."""

    rate: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = 0.01
    """Learning rate of the average gap between two appearances."""
    num_buckets: Annotated[int, Field(ge=1, le=2**31)] = 1_000_000
    """Buckets of each hash; candidates that share one look more frequent than they are."""
    num_hashes: Annotated[int, Field(ge=1, le=16)] = 1
    """Hashes; the rarest estimate of all is taken."""
    start_gap: Positive = 100.0
    """Gap, in batches, before a bucket was met."""


class Loss(Settings):
    """What is minimised over the logits of a batch (numerics: order on the logits, other losses)."""

    kind: Literal["softmax", "full_softmax", "bpr", "triplet", "contrastive", "sigmoid", "gbce"] = "softmax"
    """`softmax` over the batch's columns; `full_softmax` over the whole catalogue, encoded anew at every step; `bpr`,
    `triplet` and `contrastive` compare pairs, `sigmoid` (SigLIP's form, with a learned bias) and `gbce` judge each pair
    alone."""
    temperature: Positive = 1.0
    """Divides the inner product, before the bias and before log_q; where it is learned, its start."""
    learn_temperature: bool = False
    """Learn the temperature, as exp of a parameter that stays inside `temperature_range`."""
    temperature_range: tuple[Positive, Positive] = (0.01, 10.0)
    """Least and largest learned temperature."""
    log_q: Literal["none", "exact", "streaming", "refined"] = "exact"
    """Sampling-bias correction subtracted from the logits (softmax only): from the train counts; from the streaming
    estimator of Yi et al. 2019; or Khrylchenko et al. 2025, which leaves the positive uncorrected and outside the
    denominator, and weights each row by how far it is from learned."""
    streaming: Streaming = Streaming()
    """The estimator behind log_q=streaming."""
    remove_accidental_hits: bool = True
    """Other columns holding the same candidate as a row's positive get -inf."""
    margin: NotNegative = 0.2
    """Triplet: how far a positive's logit must be above a negative's. Contrastive: distance (1 - cosine) from which on
    a negative is left alone."""
    gbce_t: Annotated[float, Field(ge=0, le=1)] = 0.75
    """gBCE: calibration t; 0 is plain binary cross-entropy, 1 undoes the over-confidence of negative sampling whole."""
    sigmoid_bias: Annotated[float, Field(allow_inf_nan=False)] = -10.0
    """Sigmoid: where the learned bias starts (SigLIP's start, at which all pairs look negative)."""

    @pydantic.model_validator(mode="after")
    def _temperature_is_inside_its_range(self) -> Self:
        low, high = self.temperature_range
        if low >= high:
            raise ValueError(f"temperature_range must rise; got {low} to {high}")
        if self.learn_temperature and not low <= self.temperature <= high:
            raise ValueError(f"temperature {self.temperature} is outside temperature_range {low} to {high}")
        return self

    @property
    def log_temperature_range(self) -> tuple[float, float]:
        """Bounds of the learned parameter, rounded to float32 so that it can stand on them in every dtype."""
        low, high = (float(np.float32(math.log(bound))) for bound in self.temperature_range)
        return low, high


class Mined(Settings):
    """Offline hard negatives: every few epochs the current index is searched with the training queries."""

    per_example: Annotated[int, Field(ge=0)] = 0
    """Extra columns of a batch, per example of it; 0 turns mining off."""
    hard_fraction: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Share of those columns that are mined; the rest is drawn from the whole catalogue, as all are before the first
    mining."""
    every_epochs: Count = 1
    """Mine after every so many epochs, with the towers of then."""
    first_rank: Count = 10
    """Best rank taken, known positives not counted: those above are too often positives that nobody has met yet."""
    last_rank: Count = 100
    """Last rank taken."""

    @pydantic.model_validator(mode="after")
    def _ranks_rise(self) -> Self:
        if self.first_rank > self.last_rank:
            raise ValueError(f"first_rank {self.first_rank} is behind last_rank {self.last_rank}")
        return self


class Bank(Settings):
    """Cross-batch negatives: a first-in, first-out store of candidate vectors of earlier batches, without gradient."""

    num_batches: Annotated[int, Field(ge=0)] = 0
    """Batches that it holds; 0 turns it off."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Optimiser steps before its columns count: vectors of the first steps grow stale at once."""
    momentum: Fraction | None = None
    """Fill it with the vectors of a moving average of the candidate tower that keeps this share of itself at every step
    (0.999 is usual); none fills it with the batch's own vectors."""


class Negatives(Settings):
    """Which candidates stand against a positive beside the other positives of its batch, and which may not."""

    mask_known_positives: bool = False
    """Every candidate that the query has met as a train positive gets -inf in its row, the own positive excepted."""
    mask_not_yet_seen: bool = False
    """The explicit mask: a candidate whose first train row is later than the example's could not have been chosen, and
    gets -inf in its row."""
    hardest: Count | None = None
    """Keep only the so many largest logits among a row's negatives."""
    sampled: Annotated[int, Field(ge=0)] = 0
    """Candidates drawn from the whole catalogue for every batch, columns of all its rows (mixed negative sampling)."""
    sampled_from: Literal["uniform", "popularity"] = "uniform"
    """Drawn evenly, or by train count."""
    impressions: Annotated[int, Field(ge=0)] = 0
    """Candidates shown to the query and not taken (train rows that are no positives), drawn per example, for its own
    row only."""
    mined: Mined = Mined()
    """Offline hard negatives."""
    bank: Bank = Bank()
    """Cross-batch negatives."""


class Optimizer(Settings):
    """One update rule, the same in both stacks; embedding rows outside the batch do not move."""

    kind: Literal["adagrad", "adam", "adamw", "sgd"] = "adagrad"
    """Update rule."""
    learning_rate: Positive = 0.1
    """Peak learning rate."""
    beta_1: Fraction = 0.9
    """Adam, AdamW: decay of the first moment."""
    beta_2: Fraction = 0.999
    """Adam, AdamW: decay of the second moment."""
    epsilon: Positive = 1e-8
    """Added to the square root, after bias correction, in Adam, AdamW and Adagrad."""
    initial_accumulator: NotNegative = 0.1
    """Adagrad: where the sum of squares starts."""
    momentum: Fraction = 0.0
    """SGD: v = momentum v + g; p -= lr v."""
    weight_decay: NotNegative = 0.0
    """AdamW: p -= lr weight_decay p before the step; embedding rows of the batch and kernels, never dense biases."""
    decay_candidate_bias: bool = False
    """AdamW: let weight decay act on the candidate bias too."""
    clip_norm: Positive | None = None
    """Scale the gradient of all parameters together to at most this L2 norm; none means no clipping."""
    accumulation_steps: Count = 1
    """Batches whose mean gradient makes one step."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps of linear rise from 0 to the peak."""
    schedule: Literal["constant", "cosine"] = "constant"
    """After warm-up: stay, or fall to 0 along a half cosine at the last step."""

    @pydantic.model_validator(mode="after")
    def _decay_belongs_to_adamw(self) -> Self:
        if self.weight_decay and self.kind != "adamw":
            raise ValueError(f"weight_decay acts in adamw only; kind is {self.kind}")
        return self


class Training(Settings):
    """Length and bookkeeping of training."""

    epochs: Count = 10
    """Passes over the train positives."""
    batch_size: Annotated[int, Field(ge=2)] = 1_024
    """Examples in a batch; each positive's negatives are the others. The last, short batch of an epoch is left out."""
    embedding_stddev: Positive = 0.05
    """Standard deviation of the normal that embedding tables start from."""
    chunk_size: Count | None = None
    """Examples encoded with a graph at a time (cached gradients): the batch keeps all its negatives, memory follows the
    chunk. The gradient is the same; dropout draws anew for each chunk. None encodes the batch at once."""
    checkpoint_every_steps: Count = 500
    """Steps between checkpoints; one is also written at the end of every epoch."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU where the framework sees one."""


# ---------------------------------------------------------------- evaluation, index


class Evaluation(Settings):
    """What the report says."""

    cutoffs: tuple[Count, ...] = (1, 5, 10, 50, 100)
    """K of the metrics at K."""
    exclude_seen: bool = True
    """Leave out of the ranking what the query met in training."""
    part: Literal["validation", "test"] = "test"
    """Which held-out rows count."""
    bootstrap_samples: Count = 1_000
    """Resamples of queries for the 95 % intervals."""
    max_bytes: Annotated[int, Field(ge=1_000_000)] = 256_000_000
    """Bound on the memory of one chunk of scores."""
    baselines: tuple[Literal["popularity", "ease"], ...] = ("popularity", "ease")
    """Rows beside the model's; `ease` becomes item-item cosine above `ease_max_candidates`."""
    ease_l2: Positive = 500.0
    """L2 regularisation of EASE."""
    ease_max_candidates: Count = 12_000
    """Largest catalogue whose item-item matrix EASE inverts."""
    head_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of most popular candidates that form the slice `head`; the rest are `tail`."""


class Index(Settings):
    """Approximate or exact search over candidate vectors."""

    backend: Literal["exact", "scann", "faiss"] = "exact"
    """`scann` belongs to the TensorFlow stack, `faiss` to the PyTorch stack."""
    scann_brute_force_below: Count = 20_000
    """Under this many candidates ScaNN searches all, as its authors advise."""
    scann_leaves: Count | None = None
    """Partitions; none means the square root of the number of candidates."""
    scann_leaves_to_search: Count | None = None
    """Partitions searched; none means a tenth of them, at least one."""
    scann_anisotropic_threshold: NotNegative = 0.2
    """Anisotropic quantisation threshold of the score phase."""
    scann_rescore: Count = 200
    """Candidates rescored exactly, at least k."""
    faiss_factory: str = "Flat"
    """FAISS factory string: Flat, IVF100,Flat, HNSW32, IVF100,PQ8 and so on; inner product always."""
    faiss_nprobe: Count = 16
    """IVF: lists searched."""
    faiss_ef_search: Count = 128
    """HNSW: breadth of the search."""


class RunConfig(Settings):
    """One run, whole."""

    name: str = "run"
    """Shown in reports."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of initial weights, batch order and dropout; the data's own seed is `split.seed` or the source's."""
    source: Source = SimulatedSource()
    positives: Positives = Positives()
    split: SplitRule = SplitRule()
    query: Tower
    candidate: Tower
    model: Model = Model()
    loss: Loss = Loss()
    negatives: Negatives = Negatives()
    optimizer: Optimizer = Optimizer()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    index: Index = Index()

    @pydantic.model_validator(mode="after")
    def _rooms_agree(self) -> Self:
        if any(feature.kind == "history" for feature in self.candidate.features):
            raise ValueError("a history belongs to a query; the candidate tower cannot have one")
        if self.model.candidate_bias and self.candidate_id_feature is None:
            raise ValueError("model.candidate_bias needs a feature of kind id in the candidate tower")
        refused = refusals(self)
        if refused:
            raise ValueError("; ".join(refused))
        return self

    @property
    def candidate_id_feature(self) -> Feature | None:
        """The candidate tower's feature of kind id, whose vocabulary the candidate bias shares."""
        return next((feature for feature in self.candidate.features if feature.kind == "id"), None)

    @property
    def vector_dim(self) -> int:
        """Width D of a served vector: the towers' width, and one more for the candidate bias."""
        return self.model.dim + int(self.model.candidate_bias)

    def digest(self) -> str:
        """SHA-256 of the canonical JSON, without the fields in `PLACES`."""
        tree = self.model_dump(mode="json")
        for room, field in PLACES:
            tree[room].pop(field, None)
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()

    def to_yaml(self) -> str:
        """The file that repeats the run: every field, defaults included."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
