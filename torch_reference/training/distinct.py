"""Encoding without repetition: of equal entity rows in a batch one passes through its tower, and all get the vector.

Letters: B entity rows as the batch holds them, U distinct ones.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from torch_reference.inputs import FeatureTensors


def encode_once(
    encode: Callable[[FeatureTensors], Sequence[Tensor]], features: FeatureTensors, rows: Tensor
) -> list[Tensor]:
    """Encode distinct rows alone.

    The gradient that goes back into the tower is, for each distinct row, the sum over its copies. Nothing is compared
    but the rows: the features of copies must be equal, no dropout may act, and no statistics of the batch be taken.

    Args:
        encode: features, leading dimension U -> vectors and whatever else belongs to the rows.
        features: by name, leading dimension B.
        rows: entity rows [B], int64.

    Returns:
        The encoder's results with the leading dimension B.
    """
    first_U, places_B = distinct(rows)
    encoded = encode({name: values.index_select(0, first_U) for name, values in features.items()})
    return [part.index_select(0, places_B) for part in encoded]


def distinct(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Place of the first copy of each distinct row [U], and the place of each row [B] among those; both int64."""
    sorted_U, places_B = torch.unique(rows, return_inverse=True)
    first_U = torch.full_like(sorted_U, len(rows))
    return first_U.scatter_reduce_(0, places_B, torch.arange(len(rows), device=rows.device), "amin"), places_B
