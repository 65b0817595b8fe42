"""A moving average of the candidate tower, whose vectors fill the bank."""

import copy
from collections.abc import Mapping

import tensorflow as tf

from retrieval_contract.weights.names import CANDIDATE_BIAS
from tfrs_models.towers.two_tower import TwoTower
from tfrs_models.weights import tower_variables


class MovingAverage(tf.Module):
    """Candidate tower and candidate bias that follow the trained ones: `average <- m average + (1 - m) weights`.

    Source: He et al., CVPR 2020 (MoCo), eq. 2.
    """

    def __init__(self, towers: TwoTower, momentum: float) -> None:
        """Stand where the trained weights stand.

        Args:
            towers: what is trained.
            momentum: share m of itself that the average keeps at every step, 0 to below 1.
        """
        super().__init__()
        self.momentum = momentum
        self._tower, self._bias_table = copy.deepcopy(towers.candidate), copy.deepcopy(towers.bias_table)
        self._id_name = towers.id_name
        self.variables_by_name = tower_variables("candidate", self._tower)
        self._trained = tower_variables("candidate", towers.candidate)
        if self._bias_table is not None:
            self.variables_by_name[CANDIDATE_BIAS], self._trained[CANDIDATE_BIAS] = self._bias_table, towers.bias_table

    def update(self) -> None:
        """Move towards the trained weights; every row of every table moves, whether the step touched it or not."""
        for name, average in self.variables_by_name.items():
            average.assign(self.momentum * average + (1 - self.momentum) * self._trained[name])

    def encode_candidate(self, features: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Candidate features -> vectors [N, D], without dropout, and candidate bias [N] where there is one."""
        bias_N = None if self._bias_table is None else tf.gather(self._bias_table, features[self._id_name])[:, 0]
        return self._tower(features), bias_N
