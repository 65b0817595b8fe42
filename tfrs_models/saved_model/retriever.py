"""The module that is exported: preprocessing, towers, search and ids behind five signatures.

| signature | inputs | outputs |
|---|---|---|
| `serving_default` | raw query features, `k` | `ids`, `scores` |
| `retrieve_with_exclusions` | raw query features, `k`, `exclusions`, a `filter.<attribute>` each | `ids`, `scores` |
| `search` | `vectors` [B, D] (of several interests [B, I, D]), `k` | `ids`, `scores` |
| `embed_query` | raw query features | `vectors` |
| `embed_candidate` | raw candidate features | `vectors` |

Raw features are called, typed and padded as `tfrs_models.preprocessing.inputs` says; a query's history is what lies
before the request. `k` is an int32 scalar, `exclusions` text [B, X] of candidate ids and a filter text [B, F] of
accepted values, both padded with "". `ids` is text [B, K] and `scores` float32 [B, K], best first; where fewer than K
candidates are allowed, the rest holds "" and -inf. B may be 0.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, final

import tensorflow as tf

from retrieval_contract.data.vocabulary import FIRST_ROW
from retrieval_contract.errors import UserError
from tfrs_models.preprocessing import FeaturePreprocessor
from tfrs_models.preprocessing.rows import VocabularyTable
from tfrs_models.saved_model.blocks import in_blocks
from tfrs_models.saved_model.filters import CandidateFilters
from tfrs_models.saved_model.ordering import Found
from tfrs_models.towers.two_tower import TwoTower
from tfrs_models.weights import parameters_by_name

K, EXCLUSIONS, VECTORS, FILTER = "k", "exclusions", "vectors", "filter."
"""Names of inputs that are no features; `filter.` is the beginning of one."""
Tensors = dict[str, tf.Tensor]


class Search(Protocol):
    """What finds candidates, in the graph (`ExactSearch` says what the arguments are)."""

    def __call__(
        self,
        queries_BID: tf.Tensor,
        k: tf.Tensor,
        excluded_BX: tf.Tensor | None = None,
        allowed_BN: tf.Tensor | None = None,
    ) -> Found:
        """Find the best K."""
        ...


@final
class Retriever(tf.Module):
    """Everything that a server needs to answer; its functions are the signatures."""

    def __init__(
        self,
        towers: TwoTower,
        query: FeaturePreprocessor,
        candidate: FeaturePreprocessor,
        search: Search,
        ids: Sequence[str],
        filters: CandidateFilters,
    ) -> None:
        """Put the parts together.

        Args:
            towers: float32, with their weights.
            query: encodes raw queries.
            candidate: encodes raw candidates.
            search: over the vectors of all candidates.
            ids: of those candidates [N], in their order.
            filters: over the same candidates.

        Raises:
            UserError: a feature is called as another input.
        """
        super().__init__()
        self.query, self.candidate, self.filters = query, candidate, filters
        self.find, self.size = search, len(ids)
        self.ids_N = tf.Variable(list(ids), trainable=False, name="candidate_ids")
        self._row_of = VocabularyTable(ids)
        # The variables alone are saved: Keras would trace every layer of a model once more.
        self.weights = parameters_by_name(towers)
        self._query_tower, self._candidate_vectors = towers.query_vectors, towers.candidate_vectors
        # Three signatures need it: as a function it stands in the graph once.
        features = query.input_signature(lists="padded")
        self.query_vectors = tf.function(self._encode_queries, input_signature=[features], autograph=False)
        taken = {K, EXCLUSIONS, *map(argument_name, self.filter_inputs)}
        if clash := sorted(taken & set(query.inputs)):
            todo = "call the column otherwise in the tables"
            raise UserError(f"a feature is read from an input {clash[0]!r}, which is taken", where="export", todo=todo)

    @property
    def filter_inputs(self) -> dict[str, str]:
        """Names of the inputs that filter -> attribute."""
        return {FILTER + name: name for name in self.filters.names}

    def signatures(self, vector_shape: Sequence[int | None]) -> dict[str, Any]:
        """Concrete functions by signature name.

        Args:
            vector_shape: of the query vectors, [None, D], or [None, I, D] of several interests.
        """
        features = self.query.input_signature(lists="padded")
        k = {K: tf.TensorSpec([], tf.int32, K)}
        texts = {name: tf.TensorSpec([None, None], tf.string) for name in (EXCLUSIONS, *self.filter_inputs)}
        vectors = {VECTORS: tf.TensorSpec(vector_shape, tf.float32)}
        return {
            "serving_default": _function(self._retrieve, {**features, **k}),
            "retrieve_with_exclusions": _function(self._retrieve_with_exclusions, {**features, **k, **texts}),
            "search": _function(self._search, {**vectors, **k}),
            "embed_query": _function(self._embed_query, features),
            "embed_candidate": _function(self._embed_candidate, self.candidate.input_signature(lists="padded")),
        }

    def _retrieve(self, inputs: Tensors) -> Tensors:
        k = self._checked_k(inputs.pop(K))
        return self._answer(self.find(self._queries(_checked_rows(inputs)), k))

    def _retrieve_with_exclusions(self, inputs: Tensors) -> Tensors:
        k, inputs = self._checked_k(inputs.pop(K)), _checked_rows(inputs)
        wanted = {attribute: inputs.pop(argument_name(name)) for name, attribute in self.filter_inputs.items()}
        excluded_BX = self._rows_of(inputs.pop(EXCLUSIONS))
        queries_BID = self._queries(inputs)
        if not wanted:
            return self._answer(self.find(queries_BID, k, excluded_BX))

        def filtered(parts: list[tf.Tensor]) -> Found:
            queries, excluded, *values = parts
            return self.find(queries, k, excluded, self.filters(dict(zip(wanted, values, strict=True))))

        given = [queries_BID, excluded_BX, *wanted.values()]
        is_filtered = tf.reduce_any([tf.reduce_any(values_BF != "") for values_BF in wanted.values()])
        return self._answer(
            tf.cond(
                is_filtered,
                lambda: in_blocks(filtered, given, bytes_each=4 * self.size),
                lambda: self.find(queries_BID, k, excluded_BX),
            )
        )

    def _search(self, inputs: Tensors) -> Tensors:
        vectors = tf.debugging.check_numerics(inputs[VECTORS], f"input {VECTORS!r}")
        return self._answer(self.find(_as_interests(vectors), self._checked_k(inputs[K])))

    def _embed_query(self, inputs: Tensors) -> Tensors:
        return {VECTORS: self.query_vectors(_checked_rows(inputs))}

    def _embed_candidate(self, inputs: Tensors) -> Tensors:
        return {VECTORS: self._candidate_vectors(self.candidate(_checked_rows(inputs)))}

    def _queries(self, features: Tensors) -> tf.Tensor:
        return _as_interests(self.query_vectors(features))

    def _encode_queries(self, features: Tensors) -> tf.Tensor:
        return self._query_tower(self.query(features))

    def _rows_of(self, ids_BX: tf.Tensor) -> tf.Tensor:
        """Rows of ids; -1 of padding and of ids that are not in the catalogue."""
        rows_BX = self._row_of(ids_BX)
        return tf.where(tf.logical_or(ids_BX == "", rows_BX < FIRST_ROW), -1, rows_BX - FIRST_ROW)

    def _answer(self, found: Found) -> Tensors:
        rows_BK, scores_BK = found
        ids_BK = tf.where(rows_BK < 0, "", tf.gather(self.ids_N, tf.maximum(rows_BK, 0)))
        return {"ids": ids_BK, "scores": scores_BK}

    def _checked_k(self, k: tf.Tensor) -> tf.Tensor:
        said = [f"k must be 1 to {self.size}, the number of candidates, and is", k]
        with tf.control_dependencies([tf.debugging.Assert(tf.logical_and(k >= 1, k <= self.size), said)]):
            return tf.identity(k)


def argument_name(name: str) -> str:
    """The name that TensorFlow gives an argument of a signature called so: letters, digits and `_` of ASCII."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name)


def _function(body: Callable[[Tensors], Tensors], inputs: Mapping[str, tf.TensorSpec]) -> Any:
    specs = {
        argument_name(name): tf.TensorSpec(spec.shape, spec.dtype, argument_name(name)) for name, spec in inputs.items()
    }
    return tf.function(lambda **raw: body(raw), autograph=False).get_concrete_function(**specs)


def _as_interests(vectors: tf.Tensor) -> tf.Tensor:
    """Query vectors [B, D] as [B, 1, D]; [B, I, D] as they are."""
    return vectors if vectors.shape.rank == 3 else vectors[:, None, :]


def _checked_rows(inputs: Tensors) -> Tensors:
    """The inputs, all of which must have as many rows: some ops would repeat one row silently."""
    num_rows = tf.stack([tf.shape(tensor)[0] for tensor in inputs.values()])
    said = [f"inputs differ in their number of rows: {', '.join(inputs)} have", num_rows]
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(num_rows == num_rows[0]), said, summarize=99)]):
        return {name: tf.identity(tensor) for name, tensor in inputs.items()}
