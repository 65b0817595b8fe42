"""What the report says, and how candidates are searched."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from retrieval_contract.config.base import Count, NotNegative, Positive, Settings


class Evaluation(Settings):
    """What the report says."""

    cutoffs: tuple[Count, ...] = (1, 5, 10, 50, 100)
    """K of the metrics at K."""
    exclude_seen: bool = True
    """Leave out of the ranking what the query met in training."""
    part: Literal["validation", "test"] = "test"
    """Which held-out rows count."""
    known: Literal["train", "train_and_validation"] = "train"
    """Rows that a query is known by when test rows are asked about: in its history, in its affinities, and where seen
    candidates are excluded. The leave-one-out protocol of sequential recommendation knows the validation row."""
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

    SEARCHED_BY: ClassVar[frozenset[str]] = frozenset(
        {
            "scann_leaves_to_search",
            "scann_rescore",
            "partitioned_searched",
            "partitioned_rescore",
            "faiss_nprobe",
            "faiss_rescore",
            "faiss_ef_search",
        }
    )
    """Fields that only a search reads: another value needs no other structure."""
    backend: Literal["exact", "scann", "faiss", "partitioned"] = "exact"
    """`scann` and `partitioned` (plain TensorFlow ops) belong to the TensorFlow stack, `faiss` to the PyTorch stack."""
    attributes: tuple[str, ...] = ()
    """Columns of the candidates, of text, numbers or lists of those, that a request may filter by."""
    store: Literal["float32", "float16", "int8", "none"] = "float32"
    """What is kept of the vectors for rescoring what the backend proposes: 4 D, 2 D or D + 4 bytes a candidate, or
    nothing, so that the backend's own scores stand."""
    scann_brute_force_below: Count = 20_000
    """Under this many candidates ScaNN searches all, as its authors advise."""
    scann_hash_only_below: Count = 100_000
    """Under this many candidates, and not so few that all are searched, ScaNN looks through the codes of all; from it
    on there are partitions."""
    scann_leaves: Count | None = None
    """Partitions; none means the square root of the number of candidates. Given, there are partitions from
    `scann_brute_force_below` on."""
    scann_leaves_to_search: Count | None = None
    """Partitions searched; none means three times the square root of their number, half of that with SOAR: recall@100
    of 0.98 and more on clustered vectors."""
    scann_anisotropic_threshold: NotNegative = 0.2
    """Anisotropic quantisation threshold of the score phase."""
    scann_dims_per_block: Count = 2
    """Dimensions that share a code of 4 bits: D / 4 bytes a candidate with 2, half of that with 4."""
    scann_soar: bool = True
    """Every candidate stands in a second partition too, chosen so that the two fail differently (SOAR): fewer
    partitions need to be searched, for twice the codes. ScaNN cannot forget a candidate then."""
    scann_soar_lambda: Positive = 1.5
    """How much the second partition's error must differ in direction from the first's."""
    scann_overretrieve_factor: Annotated[float, Field(ge=1, le=10)] = 2.0
    """SOAR: how many times as many are retrieved, since the same candidate may come twice."""
    scann_reorder: Literal["float32", "bfloat16", "int8", "none"] = "none"
    """What ScaNN itself keeps of the vectors to reorder by: 4 D, 2 D or D bytes a candidate, beside what `store`
    keeps. With none its hashed scores choose what is rescored by the stored vectors; worth its bytes where `store` is
    none."""
    scann_rescore: Count = 300
    """Candidates rescored exactly at least; more where k, exclusions or a filter ask for more."""
    partitioned_partitions: Count | None = None
    """Partitions; none means one for 64 candidates, but four to eight times the square root of their number."""
    partitioned_searched: Count | None = None
    """Partitions searched, more where they hold too few; none means the square root of their number."""
    partitioned_storage: Literal["float32", "bfloat16", "int8"] = "int8"
    """What the partitions hold of each vector, beside `store`: 4 D, 2 D or D bytes a candidate."""
    partitioned_variance: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the candidates' variance that the partitions' codes keep, along principal axes; 1 keeps all dimensions.
    Vectors that lie near few dimensions need no more to be chosen for rescoring, and are read in a part of the time;
    queries that differ elsewhere lose recall: `--target_recall` measures both. Below 1 it needs a `store`."""
    partitioned_rescore: Count = 200
    """Candidates rescored by the vectors kept; an export rescores at least twice k."""
    faiss_preset: Literal["auto", "flat", "ivf", "hnsw", "ivfpq", "opq", "fastscan", "sq8", "rabitq", "compressed"] = (
        "auto"
    )
    """FAISS structure by name, sized by the number of candidates and their width: lists of vectors, of a byte a number
    (sq8), or of codes, which differ in bytes and speed; a graph (hnsw). `auto` looks at all below 20,000 candidates and
    is `fastscan` from there on; `compressed`, with `store` none, holds a candidate in 64 bytes, or in 56 where the
    vectors lie near 48 axes."""
    faiss_factory: str | None = None
    """FAISS factory string in place of the preset: Flat, IVF100,Flat, HNSW32, IVF100,PQ8 and so on; inner product
    always."""
    faiss_nprobe: Count | None = None
    """IVF: lists searched; none means three times the square root of their number."""
    faiss_rescore: Count = 600
    """Candidates rescored exactly at least, where FAISS holds codes; more where k or exclusions ask for more."""
    faiss_ef_search: Count = 128
    """HNSW: breadth of the search."""
