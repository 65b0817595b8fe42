"""A moving average of the candidate tower, which fills the bank in its momentum form."""

import copy
from typing import Any, final

import torch
from torch import Tensor

from torch_reference.inputs import FeatureTensors
from torch_reference.towers.two_tower import TwoTower
from torch_reference.weights import parameters_by_name


@final
class MovingAverage:
    """`average <- m average + (1 - m) weights`, over everything of the candidate side, tables whole.

    Source: He et al., CVPR 2020 (MoCo), equation 2.
    """

    def __init__(self, towers: TwoTower, momentum: float) -> None:
        """Begin at the towers' weights.

        Args:
            towers: what is averaged; the query side is not copied.
            momentum: share m that the average keeps of itself at every update, 0 <= m < 1.
        """
        shared = (towers.query, towers.context, towers.merge, towers.log_temperature, towers.sigmoid_bias)
        # The copying's memo, which knows the copy of every parameter: a table that the query side shares with the
        # candidate's is copied for the candidate's alone.
        copies: dict[int, Any] = {id(part): part for part in shared if part is not None}
        self._average = copy.deepcopy(towers, copies)
        self._average.candidate.eval()
        weights = parameters_by_name(towers)
        self._weights = {name: weight for name, weight in weights.items() if name.startswith("candidate.")}
        self._momentum = momentum
        self.tensors: dict[str, Tensor] = {name: copies[id(weight)] for name, weight in self._weights.items()}
        """The averages by canonical name, in the layout of their parameters."""

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the weights as they are now."""
        for name, average in self.tensors.items():
            average.mul_(self._momentum).add_(self._weights[name], alpha=1 - self._momentum)

    @torch.no_grad()
    def encode_candidate(self, features: FeatureTensors) -> tuple[Tensor, Tensor | None]:
        """Candidate features, leading dimension N -> vectors [N, D] without dropout, and bias [N] where configured."""
        return self._average.encode_candidate(features), self._average.candidate_bias(features)
