"""The fitted features as a module of stock TensorFlow ops: raw columns in, what `retrieval_contract.arrays` says out.

Letters: B examples, N candidates.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

import tensorflow as tf

from retrieval_contract.arrays import FeatureArrays
from retrieval_contract.config import AffinityFeature, CrossFeature, HistoryFeature, Side
from retrieval_contract.data.features import FittedFeatures
from retrieval_contract.data.fitted import FittedFeature
from retrieval_contract.data.requests import CONTEXT
from retrieval_contract.serving.raw_inputs import RawInput, raw_inputs
from tfrs_models.preprocessing.encoding import encode, lookup_of
from tfrs_models.preprocessing.histories import PastEncoder
from tfrs_models.preprocessing.inputs import RawRows, missing, spec_of
from tfrs_models.preprocessing.rows import cross_rows


@final
class FeaturePreprocessor(tf.Module):
    """Encodes raw queries (with what belongs to the request), or raw candidates, exactly as the NumPy side does.

    Where the NumPy side refuses a value, since a table can be mended, a request is answered: an infinity counts as the
    largest number, a vector that holds NaN as zeros, a weight that is NaN as 1 and a negative one as 0. The module
    `inputs` says what each form of input is and what stands for a missing value. Texts of a tokenizer come as token
    ids: stock TensorFlow cannot read the tokenizer's file. Vocabularies and tables are tracked: `tf.saved_model.save`
    carries them with whatever module holds this one, and no file of the run is needed afterwards.
    """

    def __init__(
        self,
        fitted: FittedFeatures,
        side: Literal["query", "candidate"],
        *,
        candidate_ids: Sequence[str] | None = None,
        candidate_features: FeatureArrays | None = None,
    ) -> None:
        """Build the tables.

        Args:
            fitted: the run's fitted features.
            side: query, which the context tower's features belong to (`context.<name>`), or candidate.
            candidate_ids: ids of the catalogue [N], which affinities and the fields of histories are looked up by;
                others need none.
            candidate_features: what `fitted.encode_entities("candidate", ...)` gave for them, leading dimension N.

        Raises:
            UserError: a history or an affinity needs the catalogue and it is not given; columns cannot be told apart.
        """
        super().__init__()
        self._fitted = fitted
        self._side = side
        self._lookups = {
            f"{part}.{feature.name}": lookup
            for part in self._parts
            for feature in fitted.of(part)
            if (lookup := lookup_of(feature)) is not None
        }
        self._past = None
        if side == "query" and (fitted.histories or fitted.affinities):
            with tf.device("/CPU:0"):
                unknown = _unknown_candidate(fitted)
                self._past = PastEncoder(fitted, candidate_ids, candidate_features, unknown)
        self._names = {raw: name for name, raw in raw_inputs(fitted, side).items()}

    @property
    def inputs(self) -> dict[str, RawInput]:
        """What may be given, by name, in the features' order."""
        return {name: raw for raw, name in self._names.items()}

    def input_signature(self, *, lists: Literal["ragged", "padded"] = "ragged") -> dict[str, tf.TypeSpec]:
        """Types and shapes of all inputs by name.

        Args:
            lists: `ragged` takes lists exactly, for `tf.function(encode, input_signature=[...])`; `padded` takes
                rectangles [B, M], for a signature of a SavedModel, where the parts of ragged tensors have no names:
                `tf.function(lambda **raw: encode(raw)).get_concrete_function(**...)`.
        """
        return {name: spec_of(raw, name, lists=lists) for name, raw in self.inputs.items()}

    @tf.autograph.experimental.do_not_convert
    def __call__(self, raw: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        """Encode rows.

        Args:
            raw: inputs by name, each with B rows, in any form that `inputs` lists; what is left out is missing.

        Returns:
            Encoded features by name, context features as `context.<name>`: names, types and shapes of the NumPy side.

        Raises:
            UserError: an unknown input, none at all, or one of another type or rank.
        """
        # Texts live on the CPU, and where the rest would go to and fro hundreds of times, a GPU only costs.
        with tf.device("/CPU:0"):
            rows = RawRows(self._names, raw)
            encoded: dict[str, tf.Tensor] = {}
            for part in self._parts:
                prefix = CONTEXT if part == "context" else ""
                encoded |= {prefix + name: values for name, values in self._encode(part, rows).items()}
        return encoded

    @property
    def _parts(self) -> tuple[Side, ...]:
        return ("candidate",) if self._side == "candidate" else ("query", "context")

    def _encode(self, part: Side, rows: RawRows) -> dict[str, tf.Tensor]:
        """One tower's features, in its order."""
        features = self._fitted.of(part)
        encoded: dict[str, tf.Tensor] = {}
        for feature in features:
            if _is_of_columns(feature):
                encoded |= encode(feature, part, self._lookups.get(f"{part}.{feature.name}"), rows)
        for feature in features:
            if isinstance(feature.spec, CrossFeature):
                encoded[feature.name] = cross_rows(
                    [encoded[name] for name in feature.spec.of], feature.spec.num_buckets
                )
        if self._past is not None and part == "query":
            encoded |= self._past(rows)
        return _in_order([feature.name for feature in features], encoded)


def _is_of_columns(feature: FittedFeature) -> bool:
    return not isinstance(feature.spec, CrossFeature | HistoryFeature | AffinityFeature)


def _in_order(names: Sequence[str], encoded: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The tensors in the order of the features, what belongs to one behind it."""
    own = {name: [key for key in encoded if key == name or key.startswith(f"{name}.")] for name in names}
    return {key: encoded[key] for name in names for key in own[name]}


def _unknown_candidate(fitted: FittedFeatures) -> dict[str, tf.Tensor]:
    """Encoded features, leading dimension 1, of a candidate of which nothing is known."""
    encode_candidates = FeaturePreprocessor(fitted, "candidate")
    nothing = {name: missing(raw, tf.constant(1)) for name, raw in encode_candidates.inputs.items()}
    return encode_candidates(nothing)
