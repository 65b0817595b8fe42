"""A run -> a folder that answers requests without it.

query_tower.pt2, candidate_tower.pt2      programs of `torch.export`: encoded features in, vectors out
query_tower.onnx, candidate_tower.onnx    the same in ONNX, where its packages are installed
features.json, catalogue.safetensors      how raw features are encoded, and what items of a history are looked up by
index/                                    the saved index: ids, vectors, structure, attributes
config.yaml                               the run's configuration, for people
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch.export import ExportedProgram

from retrieval_contract.arrays import FeatureArrays, Float32Array, Int32Array
from retrieval_contract.data.encoding import weights_name
from retrieval_contract.errors import UserError
from retrieval_contract.files import write_text
from retrieval_contract.indexes.protocol import Index
from retrieval_contract.runs.export_recall import export_recall
from retrieval_contract.runs.opened import OpenedRun
from retrieval_contract.serving.raw_features import RawCandidateEncoder, RawQueryEncoder
from retrieval_contract.serving.raw_inputs import looked_up
from retrieval_contract.weights.archive import read_weights, write_arrays
from retrieval_contract.weights.names import parameter_table
from torch_reference.exported_program.onnx_models import missing_packages, write_onnx
from torch_reference.exported_program.programs import (
    CANDIDATE,
    OUTPUT,
    QUERY,
    candidate_program,
    described,
    query_program,
)

CATALOGUE: Final = "catalogue.safetensors"
NEEDS = (
    "Python with torch {torch} and this project's packages retrieval_contract and torch_reference "
    "(torch_reference.exported_program.ExportedRetriever); the .onnx files any ONNX runtime, given encoded features"
)


def export(opened: OpenedRun, kind: type[Index], folder: Path) -> dict[str, Any]:
    """Write everything but the manifest.

    Args:
        opened: the run.
        kind: class of the index.
        folder: empty.

    Returns:
        JSON values for the manifest.

    Raises:
        UserError: the weights changed meanwhile, or the disk is full.
    """
    config, fitted = opened.config, opened.prepared.features
    weights, digest = read_weights(opened.workdir.weights, parameter_table(config, fitted.sizes))
    if digest != opened.weights_digest:
        where = str(opened.workdir.weights)
        raise UserError("the weights changed while they were exported", where=where, todo="run again")
    write_text(folder / "config.yaml", config.to_yaml())
    write_text(folder / "features.json", fitted.to_json())
    write_arrays(folder / CATALOGUE, _looked_up(opened), {})
    index = opened.index(kind)
    index.save(folder / "index")
    queries, candidates = _blank_features(opened)
    programs = {
        QUERY: query_program(config, fitted.sizes, weights, queries),
        CANDIDATE: candidate_program(config, fitted.sizes, weights, candidates),
    }
    inputs = {name: described(program) for name, program in programs.items()}
    for name, program in programs.items():
        _write(program, list(inputs[name]), folder / name)
    return {
        "programs": {name: {"inputs": features, "output": OUTPUT} for name, features in inputs.items()},
        "onnx": not missing_packages(),
        "notes": notes_of(missing_packages()),
        **({} if kind.backend == "exact" else export_recall(opened, lambda asked, k: _rows(index, asked, k))),
        "versions": {"torch": torch.__version__},
        "needs": NEEDS.format(torch=torch.__version__),
    }


def _rows(index: Index, asked: Float32Array, k: int) -> Int32Array:
    """What the index finds for query vectors [Q, D] or [Q, I, D]: rows [Q, K]."""
    return index.search(asked, k, weights_digest=index.weights_digest).rows


def notes_of(lacking: Sequence[str]) -> list[str]:
    """What is not in the folder, and why."""
    return [f"no ONNX: {', '.join(lacking)} not installed (the extra onnx)"] if lacking else []


def _write(program: ExportedProgram, inputs: list[str], path: Path) -> None:
    try:
        torch.export.save(program, path.with_suffix(".pt2"))
        if not missing_packages():
            write_onnx(program, inputs, path.with_suffix(".onnx"))
    except RuntimeError as error:
        # torch's own writer of archives raises it where the disk is full.
        what = f"cannot write the program ({str(error).splitlines()[0]})"
        raise UserError(what, where=str(path), todo="free some space and run again") from None


def _looked_up(opened: OpenedRun) -> FeatureArrays:
    """Features of the catalogue that histories and affinities look up; nothing where none does."""
    catalogue: Mapping[str, Any] = opened.prepared.candidate_features()
    names = [name for field in looked_up(opened.prepared.features) for name in (field, weights_name(field))]
    return {name: catalogue[name] for name in names if name in catalogue}


def _blank_features(opened: OpenedRun) -> tuple[FeatureArrays, FeatureArrays]:
    """Features of a query and of a candidate of which nothing is known: names, types and shapes."""
    fitted, catalogue = opened.prepared.features, _looked_up(opened)
    ids = opened.prepared.candidates.ids
    queries = RawQueryEncoder(fitted, candidate_ids=ids, candidate_features=catalogue)
    return queries.encode({}, num_rows=1), RawCandidateEncoder(fitted).encode({}, num_rows=1)
