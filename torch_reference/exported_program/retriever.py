"""What an exported folder answers: raw features -> vectors -> candidates. Letters: B rows, D width, I interests."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, final

import torch
from torch import Tensor

from retrieval_contract.arrays import FeatureArrays, Float32Array
from retrieval_contract.data.features import FittedFeatures
from retrieval_contract.errors import UserError
from retrieval_contract.indexes.attributes import Filter
from retrieval_contract.indexes.exact import ExactIndex
from retrieval_contract.indexes.live_state import Found
from retrieval_contract.indexes.protocol import Index
from retrieval_contract.manifest import read_manifest
from retrieval_contract.serving.raw_features import RawCandidateEncoder, RawQueryEncoder, Rows
from retrieval_contract.serving.searchers import IndexSearcher
from retrieval_contract.weights.archive import read_arrays
from torch_reference.inputs import feature_tensors

STACK, KIND = "torch_reference", "export"
"""What the manifest says; `verbs.export` has the second too, and is not imported, since it opens runs."""


@final
class TowerProgram:
    """A tower read from a file: encoded features in, vectors out."""

    def __init__(self, path: Path, inputs: Sequence[str]) -> None:
        """Read the program.

        Args:
            path: what `torch.export.save` wrote.
            inputs: names of its features in its order.

        Raises:
            UserError: this version of torch cannot read it.
        """
        try:
            self._run = torch.export.load(path).module()
        except Exception as error:
            what = f"torch {torch.__version__} cannot read the program ({type(error).__name__})"
            raise UserError(what, where=str(path), todo="export again with this version") from error
        self._inputs = tuple(inputs)

    @torch.inference_mode()
    def __call__(self, features: FeatureArrays) -> Float32Array:
        """Vectors of B rows.

        Raises:
            UserError: a feature that the program takes is not there.
        """
        if absent := [name for name in self._inputs if name not in features]:
            raise UserError(f"no feature {absent[0]!r}", where="encoded features", todo="give all that the tower takes")
        tensors = feature_tensors({name: features[name] for name in self._inputs})
        num_rows = min(len(tensor) for tensor in tensors.values())
        if not num_rows:
            # A program takes one row or more.
            tensors = {name: tensor.new_zeros(1, *tensor.shape[1:]) for name, tensor in tensors.items()}
        vectors: Tensor = self._run(tensors)
        return vectors[:num_rows].numpy()


@final
class ExportedRetriever:
    """Answers requests from a folder that `python -m torch_reference.export` wrote, wherever it lies now.

    A program of `torch.export` holds no text, so text is looked up, numbers are scaled and histories are cut in NumPy
    (`RawQueryEncoder`, from features.json) before the program runs. Inputs are those of the exported TensorFlow model:
    the same names, the same meaning. Vectors are computed in float32, as the index holds them.
    """

    def __init__(
        self,
        queries: RawQueryEncoder,
        candidates: RawCandidateEncoder,
        query_tower: TowerProgram,
        candidate_tower: TowerProgram,
        index: Index,
        notes: tuple[str, ...] = (),
    ) -> None:
        """Put the parts together; `load` reads them."""
        self._queries, self._candidates = queries, candidates
        self._query_tower, self._candidate_tower = query_tower, candidate_tower
        self._searcher = IndexSearcher(index)
        self.query_inputs, self.candidate_inputs = queries.inputs, candidates.inputs
        self.attributes = index.attributes.names
        """What candidates may be filtered by."""
        self.size, self.dim = index.size, index.dim
        self.notes = notes
        """What a reader should know, such as that another version of torch wrote the programs."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a version's folder.

        Raises:
            UserError: no such folder, a file missing or damaged, written by the other stack, parts that do not belong
                together, or an index that this machine cannot read.
        """
        manifest = read_manifest(folder, KIND)
        if manifest["stack"] != STACK:
            what = f"this model was exported by {manifest['stack']}, not {STACK}"
            raise UserError(what, where=str(folder), todo="load it as a SavedModel")
        index = _index_class(manifest["backend"]).load(folder / "index")
        if index.weights_digest != manifest["weights_digest"]:
            what = "the index was built from other weights than the towers"
            raise UserError(what, where=str(folder / "index"), todo="copy the whole folder again, or export again")
        fitted = FittedFeatures.from_json((folder / "features.json").read_text(encoding="utf-8"))
        catalogue, _ = read_arrays(folder / "catalogue.safetensors")
        towers = [
            TowerProgram(folder / f"{name}.pt2", manifest["programs"][name]["inputs"])
            for name in ("query_tower", "candidate_tower")
        ]
        queries = RawQueryEncoder(fitted, candidate_ids=index.ids, candidate_features=catalogue)
        return cls(queries, RawCandidateEncoder(fitted), towers[0], towers[1], index, _notes(manifest))

    def embed_query(self, rows: Rows, *, num_rows: int | None = None) -> Float32Array:
        """Vectors [B, D], or [B, I, D] of several interests, of raw queries (`RawQueryEncoder.encode`)."""
        return self._query_tower(self._queries.encode(rows, num_rows=num_rows))

    def embed_candidate(self, rows: Rows, *, num_rows: int | None = None) -> Float32Array:
        """Vectors [B, D] of raw candidates."""
        return self._candidate_tower(self._candidates.encode(rows, num_rows=num_rows))

    def search(
        self,
        vectors: Float32Array,
        k: int,
        *,
        excluded_ids: Sequence[Sequence[str]] | None = None,
        filters: Sequence[Filter | None] | None = None,
    ) -> Found:
        """The K best candidates of each query vector, by id; "" and -inf where fewer are left.

        Args:
            vectors: of queries [B, D] or [B, I, D].
            k: 1 to the number of candidates.
            excluded_ids: for each query, candidates not to return; unknown ones exclude nothing.
            filters: for each query, accepted values by attribute.

        Raises:
            UserError: as `Index.search`.
        """
        return self._searcher.search(vectors, k, excluded_ids=excluded_ids, filters=filters)

    def retrieve(
        self,
        rows: Rows,
        k: int,
        *,
        num_rows: int | None = None,
        excluded_ids: Sequence[Sequence[str]] | None = None,
        filters: Sequence[Filter | None] | None = None,
    ) -> Found:
        """The K best candidates of raw queries: `embed_query` and `search`."""
        vectors = self.embed_query(rows, num_rows=num_rows)
        return self.search(vectors, k, excluded_ids=excluded_ids, filters=filters)


def _index_class(backend: str) -> type[Index]:
    if backend == "exact":
        return ExactIndex
    try:
        found: type[Index] = importlib.import_module("torch_reference.indexes.faiss_index").FaissIndex
    except ImportError as error:
        what = f"the index is of backend {backend!r}, which cannot be loaded ({error})"
        raise UserError(what, todo="pip install faiss-cpu, or export with --kind=exact") from None
    return found


def _notes(manifest: dict[str, Any]) -> tuple[str, ...]:
    written = manifest["versions"]["torch"]
    if written == torch.__version__:
        return ()
    return (f"the programs were written by torch {written}, and this is {torch.__version__}",)
