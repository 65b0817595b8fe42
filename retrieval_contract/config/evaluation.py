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
        {"scann_leaves_to_search", "scann_rescore", "faiss_nprobe", "faiss_ef_search"}
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
