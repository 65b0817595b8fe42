"""Signatures of a served model: the inputs and outputs by name, as TF Serving's metadata has them.

They are those of the exported TensorFlow model, so that a client speaks to either: `serving_default` (features, k),
`retrieve_with_exclusions` (features, k, exclusions, one `filter.<attribute>` each), `embed_query`, `embed_candidate`,
and `search` (vectors, k).

Letters: B queries, M values of a list, D width, I interests, K results.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from retrieval_contract.serving.model import ServedModel
from retrieval_contract.serving.raw_inputs import Form, RawInput

Operation = Literal["retrieve", "embed_query", "embed_candidate", "search"]
DEFAULT = "serving_default"
WITH_EXCLUSIONS = "retrieve_with_exclusions"
K, EXCLUSIONS, FILTER, VECTORS = "k", "exclusions", "filter.", "vectors"
_DTYPES: Mapping[Form, str] = {
    "text": "DT_STRING",
    "number": "DT_DOUBLE",
    "moment": "DT_INT64",
    "texts": "DT_STRING",
    "numbers": "DT_DOUBLE",
    "moments": "DT_INT64",
    "tokens": "DT_INT64",
    "vector": "DT_FLOAT",
}
_LISTS: tuple[Form, ...] = ("texts", "numbers", "moments", "tokens")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Type and shape of an input or an output; -1 is any length."""

    dtype: str
    shape: tuple[int, ...]

    def to_json(self, name: str) -> dict[str, Any]:
        """A `TensorInfo` as TF Serving writes it."""
        dims = [{"size": str(size), "name": ""} for size in self.shape]
        return {"dtype": self.dtype, "tensor_shape": {"dim": dims, "unknown_rank": False}, "name": f"{name}:0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One way to call a model."""

    name: str
    operation: Operation
    features: Mapping[str, RawInput] = field(default_factory=dict)
    """Raw features by input name; all of them are required."""
    others: Mapping[str, TensorSpec] = field(default_factory=dict)
    """Other inputs."""
    optional: frozenset[str] = frozenset()
    """Those of `others` that may be left out; an exported model cannot do without them."""
    outputs: Mapping[str, TensorSpec] = field(default_factory=dict)

    @property
    def inputs(self) -> dict[str, TensorSpec]:
        """All inputs by name."""
        return {name: tensor_of(raw) for name, raw in self.features.items()} | dict(self.others)

    def to_json(self) -> dict[str, Any]:
        """A `SignatureDef` as TF Serving writes it."""
        return {
            "inputs": {name: spec.to_json(f"{self.name}_{name}") for name, spec in self.inputs.items()},
            "outputs": {name: spec.to_json("StatefulPartitionedCall") for name, spec in self.outputs.items()},
            "method_name": "tensorflow/serving/predict",
            "defaults": {},
        }


def signatures_of(model: ServedModel) -> dict[str, Signature]:
    """All signatures of a model by name."""
    found = {"ids": TensorSpec("DT_STRING", (-1, -1)), "scores": TensorSpec("DT_FLOAT", (-1, -1))}
    several = {VECTORS: TensorSpec("DT_FLOAT", (-1, model.dim))}
    shape = (-1, model.dim) if model.num_interests == 1 else (-1, model.num_interests, model.dim)
    ours = {VECTORS: TensorSpec("DT_FLOAT", shape)}
    k = {K: TensorSpec("DT_INT32", ())}
    texts = TensorSpec("DT_STRING", (-1, -1))
    beside = {EXCLUSIONS: texts, **{FILTER + name: texts for name in model.attributes}}
    query, candidate = model.query_inputs, model.candidate_inputs
    every = (
        Signature(name=DEFAULT, operation="retrieve", features=query, others=k, outputs=found),
        Signature(
            name=WITH_EXCLUSIONS,
            operation="retrieve",
            features=query,
            others=k | beside,
            optional=frozenset(beside),
            outputs=found,
        ),
        Signature(name="embed_query", operation="embed_query", features=query, outputs=ours),
        Signature(name="embed_candidate", operation="embed_candidate", features=candidate, outputs=several),
        Signature(name="search", operation="search", others=ours | k, outputs=found),
    )
    return {signature.name: signature for signature in every}


def tensor_of(raw: RawInput) -> TensorSpec:
    """Type and shape of a raw feature, lists as rectangles."""
    if raw.form == "vector":
        return TensorSpec(_DTYPES[raw.form], (-1, raw.width or -1))
    return TensorSpec(_DTYPES[raw.form], (-1, -1) if raw.form in _LISTS else (-1,))


def metadata(name: str, version: int, signatures: Mapping[str, Signature]) -> dict[str, Any]:
    """The answer to `GET …/metadata`."""
    return {
        "model_spec": {"name": name, "signature_name": "", "version": str(version)},
        "metadata": {"signature_def": {"signature_def": {s.name: s.to_json() for s in signatures.values()}}},
    }
