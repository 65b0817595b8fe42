"""The canonical parameter table: RunConfig and vocabulary sizes -> name, shape, start and treatment of every weight.

Both stacks build their variables from it and map them to it by one table each; the archive stores arrays under these
names. Kernels are stored as [in, out] (`x @ kernel + bias`). Sides are query, context, candidate; the weights of a
history stand in `history_names`.

    <side>.embedding.<table>        [V, width]    a feature, `<history>.<field>`, or `<history>.age`
    <side>.projection.<feature>     [in, out]     of a dense feature
    <side>.cross.<i>.kernel         [F, F]        <side>.cross.<i>.bias           [F]
    <side>.dense.<i>.kernel         [in, out]     <side>.dense.<i>.bias           [out]
    <side>.dense.<i>.norm.<part>    [out]         scale, offset; of batch norm also mean, variance
    query.history.<history>.<part>                how its items become a vector
    context.gate.kernel             [2D, D]       context.gate.bias               [D]
    candidate.bias                  [V, 1]        rows of the candidate-id vocabulary
    loss.log_temperature            [1]           where the temperature is learned
    loss.sigmoid_bias               [1]           of the sigmoid loss, the same for every candidate
"""

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np

from retrieval_contract.arrays import Float32Array, Int32Array, Int64Array
from retrieval_contract.config import DenseFeature, Loss, RunConfig, Side, Tower, table_width
from retrieval_contract.data.vocabulary import UNKNOWN_ROW
from retrieval_contract.weights.history_names import history_parameters
from retrieval_contract.weights.parameter import Parameter, dense_parameter, embedding, offset

VocabularySizes = Mapping[str, Mapping[str, int]]
"""Rows V of each table that is looked up, padding and unknown included: sizes["query"]["query_id"]; a history's field
that has a table of its own is `<history>.<field>`. Tables that are shared stand with the candidate's alone."""

CONTEXT_GATE_KERNEL = "context.gate.kernel"
CONTEXT_GATE_BIAS = "context.gate.bias"
CANDIDATE_BIAS = "candidate.bias"
LOG_TEMPERATURE = "loss.log_temperature"
SIGMOID_BIAS = "loss.sigmoid_bias"


def embedding_name(side: Side, feature: str) -> str:
    """Canonical name of a feature's embedding table."""
    return f"{side}.embedding.{feature}"


def kernel_name(side: Side, layer: int) -> str:
    """Canonical name of a dense layer's kernel [in, out]; layers count from 0 at the features."""
    return f"{side}.dense.{layer}.kernel"


def dense_bias_name(side: Side, layer: int) -> str:
    """Canonical name of a dense layer's bias [out]."""
    return f"{side}.dense.{layer}.bias"


def projection_name(side: Side, feature: str) -> str:
    """Canonical name of a dense feature's projection [in, out]."""
    return f"{side}.projection.{feature}"


def cross_kernel_name(side: Side, layer: int) -> str:
    """Canonical name of a cross layer's kernel [F, F]."""
    return f"{side}.cross.{layer}.kernel"


def cross_bias_name(side: Side, layer: int) -> str:
    """Canonical name of a cross layer's bias [F]."""
    return f"{side}.cross.{layer}.bias"


def norm_name(side: Side, layer: int, part: Literal["scale", "offset", "mean", "variance"]) -> str:
    """Canonical name of a part of a hidden layer's norm [out]."""
    return f"{side}.dense.{layer}.norm.{part}"


def parameter_table(config: RunConfig, sizes: VocabularySizes) -> dict[str, Parameter]:
    """List every weight of the run's model, in a fixed order.

    Args:
        config: the run.
        sizes: rows of each vocabulary by side and feature.

    Returns:
        Canonical name -> parameter.
    """
    table: dict[str, Parameter] = {}
    dim = config.model.dim
    for side, tower in config.towers.items():
        table |= _feature_parameters(side, tower, sizes[side], config)
        table |= _layer_parameters(side, tower, dim)
    if config.context is not None and config.model.context_merge == "gate":
        table[CONTEXT_GATE_KERNEL], table[CONTEXT_GATE_BIAS] = dense_parameter(2 * dim, dim), offset(dim)
    id_feature = config.candidate_id_feature
    if config.model.candidate_bias and id_feature is not None:
        table[CANDIDATE_BIAS] = Parameter(
            shape=(sizes["candidate"][id_feature.name], 1),
            start="zeros",
            sparse=True,
            decays=config.optimizer.decay_candidate_bias,
        )
    return table | _loss_parameters(config.loss)


def _feature_parameters(side: Side, tower: Tower, sizes: Mapping[str, int], config: RunConfig) -> dict[str, Parameter]:
    """Tables and projections of a tower's features, and what its histories are made of."""
    table: dict[str, Parameter] = {}
    for feature in tower.features:
        if width := table_width(feature):
            table[embedding_name(side, feature.name)] = embedding(sizes[feature.name], width)
        if isinstance(feature, DenseFeature) and feature.projection is not None:
            table[projection_name(side, feature.name)] = dense_parameter(feature.width, feature.projection)
    for history in tower.histories:
        table |= history_parameters(history, config.candidate, sizes)
    return table


def _layer_parameters(side: Side, tower: Tower, dim: int) -> dict[str, Parameter]:
    """Cross layers, hidden layers with their norms, and the last linear layer."""
    table: dict[str, Parameter] = {}
    width = tower.combined_dim
    for layer in range(tower.cross_layers):
        table[cross_kernel_name(side, layer)] = dense_parameter(width, width)
        table[cross_bias_name(side, layer)] = offset(width)
    for layer, (width_in, width_out) in enumerate(tower.layer_dims(dim)):
        table[kernel_name(side, layer)] = dense_parameter(width_in, width_out)
        table[dense_bias_name(side, layer)] = offset(width_out)
        if tower.norm != "none" and layer < len(tower.hidden_dims):
            table[norm_name(side, layer, "scale")] = offset(width_out, value=1.0)
            table[norm_name(side, layer, "offset")] = offset(width_out)
        if tower.norm == "batch" and layer < len(tower.hidden_dims):
            table[norm_name(side, layer, "mean")] = offset(width_out, trained=False)
            table[norm_name(side, layer, "variance")] = offset(width_out, value=1.0, trained=False)
    return table


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
        vocabulary_rows_N: each candidate's row in the candidate-id vocabulary; several may share one.
        num_rows: rows V of that vocabulary.

    Returns:
        Bias [V, 1]; padding, unknown and rows without a count are 0, which is the mean.
    """
    known_N = (vocabulary_rows_N > UNKNOWN_ROW) & (counts_N > 0)
    bias_V = np.zeros((num_rows, 1), np.float32)
    if known_N.any():
        # Ids that are hashed may share a row: it has all their counts, and stands in the mean once.
        rows = vocabulary_rows_N[known_N]
        totals_V = np.bincount(rows, weights=counts_N[known_N])
        rows = rows[np.sort(np.unique(rows, return_index=True)[1])]
        log_counts = np.log(totals_V[rows])
        bias_V[rows, 0] = log_counts - log_counts.mean()
    return bias_V


def _start(name: str, parameter: Parameter, seed: int, stddev: float) -> Float32Array:
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *name.encode()])))
    if parameter.start in ("zeros", "constant"):
        return np.full(parameter.shape, parameter.value, np.float32)
    if parameter.start == "glorot_uniform":
        limit = np.float32(np.sqrt(6.0 / sum(parameter.shape)))
        return (2 * generator.random(parameter.shape, np.float32) - 1) * limit
    values = generator.standard_normal(parameter.shape, np.float32)
    if parameter.start == "standard_normal":
        return values
    values *= np.float32(stddev)
    if parameter.start == "embedding":
        values[0] = 0
    return values
