"""The two stacks as functions from a problem to arrays, so that a rung says what it compares and not how to ask for it.

`forward` gives, by name: `query` and `candidate` vectors [B, D], `bias` [B] where there is one, and the `logits` [B, B]
that enter the softmax, masks applied.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import tensorflow as tf
import torch
from numpy.typing import NDArray

import tfrs_models.callables
import tfrs_models.inputs
import tfrs_models.negatives.in_batch
import tfrs_models.negatives.masks
import tfrs_models.training.model
import tfrs_models.weights
import torch_reference.callables
import torch_reference.inputs
import torch_reference.negatives.in_batch
import torch_reference.negatives.masks
import torch_reference.training.model
import torch_reference.weights
from parity_tests.oracles import model as oracle
from parity_tests.problems import Problem
from retrieval_contract.arrays import FeatureArrays

Dtype = Literal["float32", "float64"]
Arrays = dict[str, NDArray[Any]]
Loss = tuple[float, Arrays]
"""Loss of a batch, and its gradient by canonical name."""


def tf_model(problem: Problem, dtype: Dtype) -> tfrs_models.training.model.RetrievalModel:
    """The TensorFlow model at the problem's weights."""
    model = tfrs_models.training.model.RetrievalModel(problem.config, problem.sizes, dtype)
    tfrs_models.weights.assign(model.towers, problem.weights)
    return model


def torch_model(problem: Problem, dtype: Dtype) -> torch_reference.training.model.RetrievalModel:
    """The PyTorch model at the problem's weights, in eval mode."""
    model = torch_reference.training.model.RetrievalModel(problem.config, problem.sizes, dtype)
    model = model.to(getattr(torch, dtype)).eval()
    torch_reference.weights.assign(model.towers, problem.weights)
    return model


def tf_forward(problem: Problem, dtype: Dtype) -> Arrays:
    """Vectors and logits of the TensorFlow stack."""
    towers, batch = tf_model(problem, dtype).towers, tfrs_models.inputs.batch_tensors(problem.batch, dtype)
    rooms = (tfrs_models.negatives.in_batch.in_batch_logits, tfrs_models.negatives.masks.mask_accidental_hits)
    return {name: array.numpy() for name, array in _forward(problem, towers, batch, *rooms).items()}


def torch_forward(problem: Problem, dtype: Dtype) -> Arrays:
    """Vectors and logits of the PyTorch stack."""
    towers, batch = torch_model(problem, dtype).towers, torch_reference.inputs.batch_tensors(problem.batch, dtype)
    rooms = (torch_reference.negatives.in_batch.in_batch_logits, torch_reference.negatives.masks.mask_accidental_hits)
    with torch.no_grad():
        return {name: array.numpy() for name, array in _forward(problem, towers, batch, *rooms).items()}


def oracle_forward(problem: Problem) -> Arrays:
    """Vectors and logits by hand."""
    passed = oracle.forward(problem.config, problem.weights, problem.batch)
    [positives] = passed.kinds
    arrays: Arrays = {"query": passed.query.value, "candidate": positives.vectors.value[0], "logits": passed.logits}
    return arrays | ({"bias": positives.bias.value[0]} if problem.config.model.candidate_bias else {})


def tf_loss(problem: Problem, dtype: Dtype) -> Loss:
    """Loss and gradients of the TensorFlow stack."""
    return _loss(problem, tfrs_models.callables.loss_and_gradients, dtype=dtype)


def torch_loss(problem: Problem, dtype: Dtype) -> Loss:
    """Loss and gradients of the PyTorch stack."""
    return _loss(problem, torch_reference.callables.loss_and_gradients, dtype=dtype)


def oracle_loss(problem: Problem) -> Loss:
    """Loss and gradients by hand."""
    arguments = (problem.config, problem.weights, problem.batch)
    return oracle.loss_and_gradients(*arguments, catalogue=problem.catalogue, bank=problem.bank)


def tf_arrays(tensors: Any) -> Any:
    """A nest of TensorFlow tensors as arrays."""
    return tf.nest.map_structure(lambda tensor: tensor.numpy(), tensors)


def torch_arrays(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """A nest of PyTorch tensors as arrays."""
    return {
        name: torch_arrays(tensor) if isinstance(tensor, Mapping) else tensor.cpu().numpy()
        for name, tensor in tensors.items()
    }


def _forward(
    problem: Problem,
    towers: Any,
    batch: Mapping[str, Any],
    in_batch_logits: Callable[..., Any],
    mask_accidental_hits: Callable[..., Any],
) -> dict[str, Any]:
    """One body for both: the rooms have the same names and arguments."""
    features: FeatureArrays = batch["candidate_features"]
    arrays = {"query": towers.encode_query(batch["query_features"]), "candidate": towers.encode_candidate(features)}
    bias = towers.candidate_bias(features)
    logits = in_batch_logits(
        arrays["query"],
        arrays["candidate"],
        temperature=towers.temperature(),
        bias_N=bias,
        log_q_N=batch["log_q"],
    )
    if problem.config.loss.remove_accidental_hits:
        logits = mask_accidental_hits(logits, batch["candidate_rows"])
    return arrays | {"logits": logits} | ({} if bias is None else {"bias": bias})


def _loss(problem: Problem, loss_and_gradients: Callable[..., Loss], *, dtype: Dtype) -> Loss:
    """One body for both: the callables have the same arguments."""
    arguments = (problem.config, problem.sizes, problem.weights, problem.batch)
    return loss_and_gradients(*arguments, dtype=dtype, catalogue=problem.catalogue, bank=problem.bank)
