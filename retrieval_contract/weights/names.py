"""The canonical parameter table: RunConfig and vocabulary sizes -> name, shape, start and treatment of every weight.

Both stacks build their variables from it and map them to it by one table each; the archive stores arrays under these
names. Kernels are stored as [in, out] (`x @ kernel + bias`).

    query.embedding.<feature>       [V, width]    candidate.embedding.<feature>   [V, width]
    query.dense.<i>.kernel          [in, out]     query.dense.<i>.bias            [out]
    candidate.bias                  [V, 1]        rows of the candidate-id vocabulary
    loss.log_temperature            [1]           where the temperature is learned
    loss.sigmoid_bias               [1]           of the sigmoid loss, the same for every candidate
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from retrieval_contract.arrays import Float32Array, Int32Array, Int64Array
from retrieval_contract.config import Loss, RunConfig
from retrieval_contract.data.vocabulary import UNKNOWN_ROW

Side = Literal["query", "candidate"]
VocabularySizes = Mapping[str, Mapping[str, int]]
"""Rows V of each vocabulary, padding and unknown included: sizes["query"]["query_id"]."""

CANDIDATE_BIAS = "candidate.bias"
LOG_TEMPERATURE = "loss.log_temperature"
SIGMOID_BIAS = "loss.sigmoid_bias"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One weight: its shape, how it starts, and how the optimiser treats it."""

    shape: tuple[int, ...]
    start: Literal["normal", "glorot_uniform", "zeros", "constant"]
    """`normal` has the configured embedding_stddev, and row 0 (padding) is zero; `constant` is filled with `value`."""
    sparse: bool
    """True for tables whose rows move only when a batch touches them."""
    decays: bool
    """True where AdamW's weight decay acts."""
    value: float = 0.0
    """Where a `constant` starts."""
    bounds: tuple[float, float] | None = None
    """Least and largest value, which the trainer puts the parameter back to after every step; none means free."""


def embedding_name(side: Side, feature: str) -> str:
    """Canonical name of a feature's embedding table."""
    return f"{side}.embedding.{feature}"


def kernel_name(side: Side, layer: int) -> str:
    """Canonical name of a dense layer's kernel [in, out]; layers count from 0 at the features."""
    return f"{side}.dense.{layer}.kernel"


def dense_bias_name(side: Side, layer: int) -> str:
    """Canonical name of a dense layer's bias [out]."""
    return f"{side}.dense.{layer}.bias"


def parameter_table(config: RunConfig, sizes: VocabularySizes) -> dict[str, Parameter]:
    """List every weight of the run's model, in a fixed order.

    Args:
        config: the run.
        sizes: rows of each vocabulary by side and feature.

    Returns:
        Canonical name -> parameter.
    """
    table: dict[str, Parameter] = {}
    sides: tuple[Side, Side] = ("query", "candidate")
    for side in sides:
        tower = getattr(config, side)
        for feature in tower.features:
            if feature.has_vocabulary:
                shape = (sizes[side][feature.name], feature.width)
                table[embedding_name(side, feature.name)] = Parameter(
                    shape=shape, start="normal", sparse=True, decays=True
                )
        for layer, (width_in, width_out) in enumerate(tower.layer_dims(config.model.dim)):
            table[kernel_name(side, layer)] = Parameter(
                shape=(width_in, width_out), start="glorot_uniform", sparse=False, decays=True
            )
            table[dense_bias_name(side, layer)] = Parameter(
                shape=(width_out,), start="zeros", sparse=False, decays=False
            )
    id_feature = config.candidate_id_feature
    if config.model.candidate_bias and id_feature is not None:
        table[CANDIDATE_BIAS] = Parameter(
            shape=(sizes["candidate"][id_feature.name], 1),
            start="zeros",
            sparse=True,
            decays=config.optimizer.decay_candidate_bias,
        )
    return table | _loss_parameters(config.loss)


def _loss_parameters(loss: Loss) -> dict[str, Parameter]:
    """Numbers that the loss learns."""
    table: dict[str, Parameter] = {}
    if loss.learn_temperature:
        low, high = loss.log_temperature_range
        table[LOG_TEMPERATURE] = Parameter(
            shape=(1,),
            start="constant",
            sparse=False,
            decays=False,
            value=min(max(math.log(loss.temperature), low), high),
            bounds=(low, high),
        )
    if loss.kind == "sigmoid":
        table[SIGMOID_BIAS] = Parameter(
            shape=(1,), start="constant", sparse=False, decays=False, value=loss.sigmoid_bias
        )
    return table


def initial_weights(table: Mapping[str, Parameter], *, seed: int, embedding_stddev: float) -> dict[str, Float32Array]:
    """Draw the weights that a run starts from, the same for both stacks.

    Every parameter has a stream of its own, keyed by seed and name, so adding one leaves the others as they were.

    Args:
        table: from `parameter_table`.
        seed: the run's seed.
        embedding_stddev: standard deviation of embedding rows.

    Returns:
        Canonical name -> float32 array.
    """
    return {name: _start(name, parameter, seed, embedding_stddev) for name, parameter in table.items()}


def log_popularity_bias(counts_N: Int64Array, vocabulary_rows_N: Int32Array, *, num_rows: int) -> Float32Array:
    """Candidate bias that starts at popularity: `log c(j)` minus its mean over the vocabulary's known rows.

    Args:
        counts_N: train positives of each candidate.
        vocabulary_rows_N: each candidate's row in the candidate-id vocabulary.
        num_rows: rows V of that vocabulary.

    Returns:
        Bias [V, 1]; padding, unknown and rows without a count are 0, which is the mean.
    """
    known_N = (vocabulary_rows_N > UNKNOWN_ROW) & (counts_N > 0)
    bias_V = np.zeros((num_rows, 1), np.float32)
    if known_N.any():
        log_counts = np.log(counts_N[known_N].astype(np.float64))
        bias_V[vocabulary_rows_N[known_N], 0] = log_counts - log_counts.mean()
    return bias_V


def _start(name: str, parameter: Parameter, seed: int, stddev: float) -> Float32Array:
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *name.encode()])))
    if parameter.start in ("zeros", "constant"):
        return np.full(parameter.shape, parameter.value, np.float32)
    if parameter.start == "glorot_uniform":
        limit = np.float32(np.sqrt(6.0 / sum(parameter.shape)))
        return (2 * generator.random(parameter.shape, np.float32) - 1) * limit
    values = generator.standard_normal(parameter.shape, np.float32) * np.float32(stddev)
    values[0] = 0
    return values
