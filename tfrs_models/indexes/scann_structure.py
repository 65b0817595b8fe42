"""Which of ScaNN's structures a catalogue gets, by its size and the settings, and what it holds in memory.

Letters: N candidates, D width.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, final

from retrieval_contract import config

FEWEST_FOR_HASHING = 16
"""Candidates below which ScaNN cannot train its codebook of 16 centres a block."""
FEWEST_LEAVES_FOR_SOAR = 2
"""A second partition to stand in needs another one."""
REORDER_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1, "none": 0}
"""Bytes of one number of a vector."""
POINT_BYTES = 12
"""Bytes for a datapoint in a partition beside its code: its number there, and the partition's number twice."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ScannStructure:
    """One structure: a search of all vectors, of all codes, or of the codes in some partitions."""

    kind: Literal["brute_force", "hash", "tree"]
    """What is looked at."""
    num_leaves: int
    """Partitions; 0 where there are none."""
    soar: bool
    """Every candidate stands in two partitions."""
    dims_per_block: int
    """Dimensions that share a code of 4 bits."""
    reorder: Literal["float32", "bfloat16", "int8", "none"]
    """What ScaNN keeps of the vectors."""

    @classmethod
    def of(cls, settings: config.Index, size: int, dim: int) -> Self:
        """Choose for N candidates of width D: as ScaNN's authors advise, unless the settings say otherwise."""
        kind: Literal["brute_force", "hash", "tree"] = "tree"
        if size < max(settings.scann_brute_force_below, FEWEST_FOR_HASHING):
            kind = "brute_force"
        elif settings.scann_leaves is None and size < settings.scann_hash_only_below:
            kind = "hash"
        leaves = min(settings.scann_leaves or round(math.sqrt(size)), size) if kind == "tree" else 0
        return cls(
            kind=kind,
            num_leaves=leaves,
            soar=settings.scann_soar and leaves >= FEWEST_LEAVES_FOR_SOAR,
            dims_per_block=min(settings.scann_dims_per_block, dim),
            reorder="none" if kind == "brute_force" else settings.scann_reorder,
        )

    def configured(self, builder: Any, settings: config.Index) -> Any:
        """Tell ScaNN's builder."""
        if self.kind == "brute_force":
            return builder.score_brute_force()
        if self.kind == "tree":
            soar = {
                "soar_lambda": settings.scann_soar_lambda,
                "overretrieve_factor": settings.scann_overretrieve_factor,
            }
            builder = builder.tree(
                num_leaves=self.num_leaves,
                num_leaves_to_search=math.ceil(self.num_leaves / 10),
                **(soar if self.soar else {}),
            )
        threshold = settings.scann_anisotropic_threshold
        builder = builder.score_ah(self.dims_per_block, anisotropic_quantization_threshold=threshold)
        if self.reorder == "none":
            return builder
        return builder.reorder(settings.scann_rescore, quantize=_reorder_type(self.reorder))

    def num_bytes(self, num_points: int, dim: int) -> int:
        """Memory of so many datapoints, within a fifth of what was measured."""
        if self.kind == "brute_force":
            return 4 * num_points * dim
        num_blocks = math.ceil(dim / self.dims_per_block)
        # A search of all codes keeps them as they came, a byte each, beside the packed ones.
        each = 3 * num_blocks / 2 if self.kind == "hash" else num_blocks / 2 + POINT_BYTES
        copies = 2 if self.soar else 1
        return int(num_points * (copies * each + REORDER_BYTES[self.reorder] * dim) + 4 * self.num_leaves * dim)

    def as_json(self) -> dict[str, Any]:
        """Fields by name."""
        return asdict(self)


def _reorder_type(reorder: str) -> Any:
    from scann.scann_ops.py.scann_builder import ReorderType

    return ReorderType[reorder.upper()]
