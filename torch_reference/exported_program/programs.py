"""The two towers as programs of `torch.export`: encoded features in, vectors out, float32.

A program takes one dictionary: features by name, rows of vocabularies as int64 and numbers as float32. Open are the
number B of queries or candidates, the length of every history up to its `max_length`, and that of every list. No
values are traced, so none stands in a program but the weights.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from retrieval_contract.arrays import FeatureArrays, Float32Array
from retrieval_contract.config import Feature, HistoryFeature, MultivalentFeature, RunConfig, TextFeature
from retrieval_contract.data.requests import CONTEXT
from retrieval_contract.weights.names import VocabularySizes
from torch_reference.inputs import FeatureTensors, feature_tensors
from torch_reference.towers.two_tower import TwoTower
from torch_reference.weights import assign

QUERY: Final = "query_tower"
CANDIDATE: Final = "candidate_tower"
OUTPUT: Final = "vectors"
FEWEST = 2
"""Rows and values that are traced with, at least: torch takes a length of 1 for a constant."""
Shapes = dict[str, dict[int, Any]]
"""Open dimensions of each feature."""


def query_program(
    config: RunConfig, sizes: VocabularySizes, weights: Mapping[str, Float32Array], features: FeatureArrays
) -> ExportedProgram:
    """Trace the query's towers: to vectors [B, D], or [B, I, D] of several interests, the 1 of a bias included.

    Args:
        config: the run.
        sizes: rows V of each vocabulary by side and feature name.
        weights: canonical name -> array.
        features: encoded features of some queries, in the order in which the program takes them; only names, types and
            shapes count.
    """
    return _program(_QueryTower(_towers(config, sizes, weights)), features, _query_shapes(config))


def candidate_program(
    config: RunConfig, sizes: VocabularySizes, weights: Mapping[str, Float32Array], features: FeatureArrays
) -> ExportedProgram:
    """Trace the candidate tower: to vectors [B, D], a bias included; arguments as of `query_program`."""
    tower = _CandidateTower(_towers(config, sizes, weights))
    return _program(tower, features, _tower_shapes("", config.candidate.features, Dim("batch", min=1)))


def described(program: ExportedProgram) -> dict[str, dict[str, Any]]:
    """Type and shape of the features that a program takes, by name in its order; None where a dimension is open."""
    assert program.example_inputs is not None
    names = program.example_inputs[0][0]
    nodes = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    values = [nodes[name] for name in program.graph_signature.user_inputs]
    return {
        name: {
            "dtype": str(value.dtype).removeprefix("torch."),
            "shape": [size if isinstance(size, int) else None for size in value.shape],
        }
        for name, value in zip(names, values, strict=True)
    }


@final
class _QueryTower(nn.Module):
    """The query's side alone; tables of the candidate's that it looks up are its own by now."""

    def __init__(self, towers: TwoTower) -> None:
        super().__init__()
        del towers.candidate
        self.towers = towers

    def forward(self, features: FeatureTensors) -> Tensor:
        return self.towers.query_vectors(features)


@final
class _CandidateTower(nn.Module):
    """The candidate's side alone."""

    def __init__(self, towers: TwoTower) -> None:
        super().__init__()
        for name in ("query", "context", "merge"):
            delattr(towers, name)
        self.towers = towers

    def forward(self, features: FeatureTensors) -> Tensor:
        return self.towers.candidate_vectors(features)


def _towers(config: RunConfig, sizes: VocabularySizes, weights: Mapping[str, Float32Array]) -> TwoTower:
    towers = TwoTower(config, sizes, "float32").eval()
    assign(towers, weights)
    return towers.requires_grad_(False)


def _program(tower: nn.Module, features: FeatureArrays, open_dims: Shapes) -> ExportedProgram:
    read = {name: array for name, array in features.items() if name in open_dims}
    tensors = {name: _blank(tensor, open_dims[name]) for name, tensor in feature_tensors(read).items()}
    shapes = {"features": {name: open_dims[name] for name in tensors}}
    with torch.no_grad():
        return torch.export.export(tower, (tensors,), dynamic_shapes=shapes, strict=False)


def _blank(tensor: Tensor, open_dims: Mapping[int, Any]) -> Tensor:
    """Zeros of a tensor's shape, long enough where a dimension is open."""
    shape = [max(size, FEWEST) if dim in open_dims else size for dim, size in enumerate(tensor.shape)]
    return torch.zeros(shape, dtype=tensor.dtype)


# ---------------------------------------------------------------- open dimensions


def _query_shapes(config: RunConfig) -> Shapes:
    batch = Dim("batch", min=1)
    shapes = _tower_shapes("", [f for f in config.query.features if not isinstance(f, HistoryFeature)], batch)
    candidate = {feature.name: feature for feature in config.candidate.features}
    for number, history in enumerate(config.query.histories):
        dims = {0: batch}
        if history.max_length >= FEWEST:
            dims[1] = Dim(f"length_{number}", min=1, max=history.max_length)
        shapes |= dict.fromkeys((history.name, f"{history.name}.ages", f"{history.name}.weights"), dims)
        for place, field in enumerate(history.fields):
            more = {2: Dim(f"values_{number}_{place}", min=1)} if _is_list(candidate[field]) else {}
            shapes |= {f"{history.name}.{name}": dims | more for name in (field, f"{field}.weights")}
    if config.context is not None:
        shapes |= _tower_shapes(CONTEXT, config.context.features, batch)
    return shapes


def _tower_shapes(prefix: str, features: Sequence[Feature], batch: Any) -> Shapes:
    shapes: Shapes = {}
    for place, feature in enumerate(features):
        more = {1: Dim(f"values_{prefix.strip('.')}{place}", min=1)} if _is_list(feature) else {}
        shapes |= {prefix + name: {0: batch} | more for name in (feature.name, f"{feature.name}.weights")}
    return shapes


def _is_list(feature: Feature) -> bool:
    return isinstance(feature, MultivalentFeature | TextFeature)
