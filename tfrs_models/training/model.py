"""Towers and task as one model, and the gradient of its loss: at once or in chunks, alone or among other processes."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_recommenders as tfrs

from retrieval_contract.arrays import FeatureArrays
from retrieval_contract.config import MindPooling, RunConfig
from retrieval_contract.weights.names import VocabularySizes, parameter_table
from tfrs_models.inputs import feature_tensors
from tfrs_models.layers.dropout import fold_in
from tfrs_models.layers.norm import Moments
from tfrs_models.negatives.columns import Columns, joined
from tfrs_models.negatives.replicas import gathered, num_replicas, replica, summed
from tfrs_models.tasks.interests import attend_label, choose_interest
from tfrs_models.tasks.retrieval import RetrievalTask
from tfrs_models.towers.two_tower import TwoTower
from tfrs_models.training.cached_gradient import encode_in_chunks, gradient_in_blocks, pull_back
from tfrs_models.training.clipping import Gradients, add_up, over_replicas
from tfrs_models.training.distinct import encode_once

_Inputs = Mapping[str, Any]
_Variables = Mapping[str, tf.Variable]
_Embedded = dict[str, list[tf.Tensor]]
"""By what was encoded: vectors, and behind them the candidate bias where the model has one."""
_STREAMS = {"query": 0, "positives": 0, "sampled": 2, "catalogue": 3, "impressions": 4}
"""Dropout streams of a batch; 0 is its own seed, from which query and candidate tower draw apart already."""
_CHUNK_STREAMS = 8
"""Where the streams of chunks begin, behind those."""


class Step(NamedTuple):
    """What a batch gives to a trainer; of several processes, the batch that they share."""

    loss: tf.Tensor
    """Scalar, nats per query."""
    gradients: Gradients
    """Of every trained parameter, by canonical name."""
    positives: Columns
    """The batch's positives as they were encoded, without gradient: what the plain bank takes."""
    moments: Moments
    """What batch norms saw, for their moving statistics to follow."""


class RetrievalModel(tfrs.Model):
    """A TFRS model: `compute_loss` on one batch; `fit` of stock Keras works too where no dropout is configured."""

    def __init__(
        self,
        config: RunConfig,
        sizes: VocabularySizes,
        dtype: str = "float32",
        catalogue: FeatureArrays | None = None,
    ) -> None:
        """Create towers and task; weights are zero until they are assigned.

        Args:
            config: the run.
            sizes: rows of each vocabulary by side and feature.
            dtype: of weights and results, "float32" or "float64".
            catalogue: encoded features of all candidates; full softmax and gbce cannot do without.
        """
        super().__init__(dtype=dtype)
        assert catalogue is not None or config.loss.kind not in ("full_softmax", "gbce"), "the loss needs the catalogue"
        self.towers = TwoTower(config, sizes, dtype)
        num_candidates = 0 if catalogue is None else len(next(iter(catalogue.values())))
        self.task = RetrievalTask(config.loss, config.negatives, num_candidates)
        self.draws = _draws(config)
        self._power = next(
            (h.pooling.power for h in config.query.histories if isinstance(h.pooling, MindPooling)), None
        )
        self._encode_once = config.training.encode_once
        self._candidates_together = config.candidate.norm == "batch" or "candidate" in self._encode_once
        encodes_all = catalogue is not None and config.loss.kind == "full_softmax"
        self._catalogue = feature_tensors(catalogue) if catalogue is not None and encodes_all else None
        self._dim, self._float, self._chunk_size = config.model.dim, dtype, config.training.chunk_size
        self._sparse = {name: parameter.sparse for name, parameter in parameter_table(config, sizes).items()}

    def compute_loss(
        self,
        inputs: _Inputs,
        training: bool = False,
        dropout_seed: tf.Tensor | None = None,
        bank: Columns | None = None,
    ) -> tf.Tensor:
        """Batch -> loss, scalar, nats per query; of several processes, this one's part of it.

        Batch norms take the batch's statistics, in training or not.

        Args:
            inputs: from `inputs.batch_tensors`; of several processes, this one's rows.
            training: whether dropout acts, and routing logits are drawn.
            dropout_seed: seed [2] of this batch at this step, int64; needed where something is drawn.
            bank: columns of earlier batches; none means none.
        """
        embedded = self._encode_all(inputs, self._seed(training, dropout_seed), [])
        return self._loss(_own(embedded, inputs), self._columns(embedded, inputs)[0], self._rows(inputs), bank)

    def loss_and_gradients(
        self,
        variables: _Variables,
        inputs: _Inputs,
        *,
        training: bool = False,
        dropout_seed: tf.Tensor | None = None,
        bank: Columns | None = None,
    ) -> Step:
        """Loss of a batch and its gradients; of several processes, of the batch that they share.

        Args:
            variables: every trained parameter, by canonical name.
            inputs: as in `compute_loss`, and so the others.
            training: as there.
            dropout_seed: seed of this batch at this step.
            bank: columns of earlier batches.
        """
        seed = self._seed(training, dropout_seed)
        moments: Moments = []
        find = self._at_once if self._chunk_size is None else self._in_chunks
        loss, gradients, positives = find(variables, inputs, seed, bank, moments)
        detached = Columns(*(None if x is None else tf.stop_gradient(x) for x in positives))
        return Step(summed(loss), over_replicas(gradients), detached, moments)

    def _at_once(
        self, variables: _Variables, inputs: _Inputs, seed: tf.Tensor | None, bank: Columns | None, moments: Moments
    ) -> tuple[tf.Tensor, Gradients, Columns]:
        """This process's part of the loss and of its gradients, and the positives of all processes."""
        with tf.GradientTape() as tape:
            embedded = self._encode_all(inputs, seed, moments)
            columns, positives = self._columns(embedded, inputs)
            loss = self._loss(_own(embedded, inputs), columns, self._rows(inputs), bank)
        return loss, tape.gradient(loss, dict(variables)), positives

    def _in_chunks(
        self, variables: _Variables, inputs: _Inputs, seed: tf.Tensor | None, bank: Columns | None, moments: Moments
    ) -> tuple[tf.Tensor, Gradients, Columns]:
        """As `_at_once`, by cached gradients; with batch norm there are no chunks, so there are no moments."""
        assert self._chunk_size is not None, "without a chunk size there are no chunks"
        size, sources = self._chunk_size, self._sources(inputs)
        encoders = {name: functools.partial(self._encode_chunk, name, seed) for name in sources}
        embedded = {
            name: encode_in_chunks(encoders[name], features, size, self._shapes(name), self._float)
            for name, features in sources.items()
        }
        columns, positives = self._columns(embedded, inputs)
        loss, on_embedded, on_loss = self._on_embedded(variables, embedded, columns, inputs, bank)
        found = [on_loss]
        for name, features in sources.items():
            reads = self._read_by(name, variables)
            found.append(pull_back(encoders[name], features, on_embedded[name], reads, self._sparse, size))
        return loss, {name: add_up([part[name] for part in found if name in part]) for name in variables}, positives

    def _read_by(self, source: str, variables: _Variables) -> _Variables:
        """What the encoder of a source reads, tables that it shares among them."""
        towers = self.towers
        if source != "query":
            return {name: variable for name, variable in variables.items() if name.startswith("candidate.")}
        parts = [part for part in (towers.query, towers.context, towers.merge) if part is not None]
        read = {variable.ref() for part in parts for variable in part.variables}
        return {name: variable for name, variable in variables.items() if variable.ref() in read}

    def _on_embedded(
        self, variables: _Variables, embedded: _Embedded, columns: Columns, inputs: _Inputs, bank: Columns | None
    ) -> tuple[tf.Tensor, _Embedded, Gradients]:
        """Loss, its gradient on all that was encoded, and that of the loss's own parameters."""
        assert self._chunk_size is not None, "without a chunk size there are no blocks"
        rows, total_weight = self._rows(inputs), summed(tf.reduce_sum(inputs["weights"]))

        def loss_of_block(own: Any, shared: Any, first: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
            stand = columns._replace(vectors_ND=shared[0], bias_N=_second(shared))
            return self._loss(own, stand, _rows_between(rows, first, end), bank, total_weight)

        shared = [x for x in (columns.vectors_ND, columns.bias_N) if x is not None]
        of_loss = {name: variable for name, variable in variables.items() if name.startswith("loss.")}
        loss, on_own, on_shared, on_loss = gradient_in_blocks(
            loss_of_block, _own(embedded, inputs), shared, of_loss, self._chunk_size
        )
        on_embedded = {**on_own, **_by_source(on_shared, embedded)}
        # Flat again, as they were encoded.
        flat = {
            name: [
                tf.reshape(gradient, tf.shape(x)) for gradient, x in zip(on_embedded[name], embedded[name], strict=True)
            ]
            for name in embedded
        }
        return loss, flat, on_loss

    # ---------------------------------------------------------------- vectors

    def _seed(self, training: bool, dropout_seed: tf.Tensor | None) -> tf.Tensor | None:
        assert dropout_seed is not None or not (training and self.draws), "dropout without a seed cannot be resumed"
        return dropout_seed if training and self.draws else None

    def _sources(self, inputs: _Inputs) -> dict[str, Mapping[str, tf.Tensor]]:
        """What is encoded for a batch: features by source."""
        candidates = (
            {"positives": inputs["candidate_features"]} if self._catalogue is None else {"catalogue": self._catalogue}
        )
        drawn = {name: inputs[name]["features"] for name in ("sampled", "impressions") if name in inputs}
        return {"query": inputs["query_features"], **candidates, **drawn}

    def _shapes(self, source: str) -> list[list[int]]:
        """Shape of each thing that an example of a source is encoded to."""
        return [[self._dim]] if source == "query" or self.towers.bias_table is None else [[self._dim], []]

    def _encode_all(self, inputs: _Inputs, seed: tf.Tensor | None, moments: Moments) -> _Embedded:
        sources = self._sources(inputs)
        query_features = sources.pop("query")

        def encode_query(features: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
            return [self.towers.encode_query(features, _stream("query", seed), moments, inputs.get("places"))]

        if "query" in self._encode_once:
            [query_BD] = encode_once(encode_query, query_features, inputs["query_rows"])
        else:
            [query_BD] = encode_query(query_features)
        if self._candidates_together:
            embedded = self._encode_together(sources, inputs, seed, moments)
        else:
            embedded = {
                name: self._encode_candidates(features, _stream(name, seed), moments)
                for name, features in sources.items()
            }
        return {"query": [self._one_vector(query_BD, embedded, inputs)], **embedded}

    def _encode_together(
        self, sources: Mapping[str, Mapping[str, tf.Tensor]], inputs: _Inputs, seed: tf.Tensor | None, moments: Moments
    ) -> _Embedded:
        """Candidates of all sources in one pass: batch norm takes its statistics over all, a row is encoded once."""
        first = next(iter(sources))
        features = {name: tf.concat([source[name] for source in sources.values()], axis=0) for name in sources[first]}
        sizes = [tf.shape(next(iter(source.values())))[0] for source in sources.values()]
        encode = functools.partial(self._encode_candidates, seed=_stream(first, seed), moments=moments)
        once = "candidate" in self._encode_once
        encoded = encode_once(encode, features, _candidate_rows(inputs)) if once else encode(features)
        parts = [tf.split(x, sizes, num=len(sizes)) for x in encoded]
        return {name: list(pieces) for name, pieces in zip(sources, zip(*parts, strict=True), strict=True)}

    def _one_vector(self, query: tf.Tensor, embedded: _Embedded, inputs: _Inputs) -> tf.Tensor:
        """Query vectors [B, D]; of several interests, what each row's positive makes of them."""
        if query.shape.rank == 2:
            return query
        if self._catalogue is None:
            positive_BD = embedded["positives"][0]
        else:
            positive_BD = tf.gather(embedded["catalogue"][0], inputs["candidate_rows"])
        if self._power is None:
            return choose_interest(query, positive_BD)
        return attend_label(query, positive_BD, self._power)

    def _encode_chunk(
        self, source: str, seed: tf.Tensor | None, features: Mapping[str, tf.Tensor], number: tf.Tensor
    ) -> list[tf.Tensor]:
        """Encode one chunk; its dropout is a function of seed, source and number, so that both passes draw the same."""
        stream = _stream(source, seed)
        stream = None if stream is None else fold_in(stream, _CHUNK_STREAMS + number)
        if source == "query":
            return [self.towers.encode_query(features, stream)]
        return self._encode_candidates(features, stream, None)

    def _encode_candidates(
        self, features: Mapping[str, tf.Tensor], seed: tf.Tensor | None, moments: Moments | None
    ) -> list[tf.Tensor]:
        """Vectors [n, D], and the candidate bias [n] where the model has one."""
        bias_N = self.towers.candidate_bias(features)
        return [self.towers.encode_candidate(features, seed, moments), *([] if bias_N is None else [bias_N])]

    def _columns(self, embedded: _Embedded, inputs: _Inputs) -> tuple[Columns, Columns]:
        """Columns that all rows share, bank apart; and the batch's positives, of all processes."""
        if self._catalogue is not None:
            vectors_VD = embedded["catalogue"][0]
            rows_V, log_q_V = tf.range(tf.shape(vectors_VD)[0]), tf.zeros_like(vectors_VD[:, 0])
            every = Columns(vectors_VD, rows_V, log_q_V, _second(embedded["catalogue"]))
            return every, every
        vectors_BD, bias_B = embedded["positives"][0], _second(embedded["positives"])
        own = Columns(vectors_BD, inputs["candidate_rows"], inputs["log_q"], bias_B)
        positives = Columns(*(None if x is None else gathered(x) for x in own))
        if "sampled" not in embedded:
            return positives, positives
        vectors_ED, bias_E = embedded["sampled"][0], _second(embedded["sampled"])
        sampled = Columns(vectors_ED, inputs["sampled"]["rows"], inputs["sampled"]["log_q"], bias_E)
        return joined([positives, sampled]), positives

    # ---------------------------------------------------------------- loss

    def _rows(self, inputs: _Inputs) -> dict[str, Any]:
        """What belongs to this process's rows and is not encoded: leading dimension B, the known positives apart."""
        rows_B = inputs["candidate_rows"]
        num_rows = tf.shape(rows_B)[0]
        own = replica() * num_rows + tf.range(num_rows) if self._catalogue is None else rows_B
        rows = {"positive_columns_B": own, "weights_B": inputs["weights"]}
        rows |= {name: inputs[name] for name in ("allowed", "known_positives") if name in inputs}
        if "impressions" in inputs:
            rows["impressions"] = {name: inputs["impressions"][name] for name in ("rows", "log_q", "allowed")}
        return rows

    def _loss(
        self,
        own: _Embedded,
        columns: Columns,
        rows: Mapping[str, Any],
        bank: Columns | None,
        total_weight: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Loss of rows: what was encoded for them alone, the columns, and what belongs to them."""
        shown = rows.get("impressions", {})
        if shown:
            vectors_BXD, bias_BX = own["impressions"][0], _second(own["impressions"])
            shown = {
                "impressions": Columns(vectors_BXD, shown["rows"], shown["log_q"], bias_BX),
                "impressions_allowed_BX": shown["allowed"],
            }
        if total_weight is None:
            total_weight = summed(tf.reduce_sum(rows["weights_B"]))
        return self.task(
            own["query"][0],
            columns,
            positive_columns_B=rows["positive_columns_B"],
            weights_B=rows["weights_B"],
            total_weight=total_weight,
            temperature=self.towers.temperature(),
            sigmoid_bias=None if self.towers.sigmoid_bias is None else self.towers.sigmoid_bias[0],
            bank=bank,
            allowed_BN=rows.get("allowed"),
            known_positives=rows.get("known_positives"),
            **shown,
        )


def _draws(config: RunConfig) -> bool:
    """True where training draws anything: dropout, or routing logits."""
    towers = config.towers.values()
    histories = [history for tower in towers for history in tower.histories]
    rates = [rate for tower in towers for rate in (tower.dropout, tower.feature_dropout)]
    rates += [rate for history in histories for rate in (history.dropout, getattr(history.pooling, "dropout", 0.0))]
    return any(rates) or any(isinstance(history.pooling, MindPooling) for history in histories)


def _candidate_rows(inputs: _Inputs) -> tf.Tensor:
    """Entity rows of all candidates that a batch brings, in the order of `RetrievalModel._sources`."""
    drawn = [tf.reshape(inputs[name]["rows"], [-1]) for name in ("sampled", "impressions") if name in inputs]
    return tf.concat([inputs["candidate_rows"], *drawn], axis=0)


def _second(embedded: list[tf.Tensor]) -> tf.Tensor | None:
    """The candidate bias, where there is one."""
    return embedded[1] if len(embedded) > 1 else None


def _own(embedded: _Embedded, inputs: _Inputs) -> _Embedded:
    """What was encoded for each row alone: the query [B, D], and its impressions [B, X, D]."""
    own = {"query": embedded["query"]}
    if "impressions" in embedded:
        shape = tf.shape(inputs["impressions"]["rows"])
        own["impressions"] = [
            tf.reshape(x, tf.concat([shape, tf.shape(x)[1:]], axis=0)) for x in embedded["impressions"]
        ]
    return own


def _rows_between(rows: Mapping[str, Any], first: tf.Tensor, end: tf.Tensor) -> dict[str, Any]:
    """A block of rows; the pairs of known positives are those of its queries, counted from its first."""
    known = rows.get("known_positives")
    block = {name: part for name, part in rows.items() if name != "known_positives"}
    block = tf.nest.map_structure(lambda x: x[first:end], block)
    if known is not None:
        inside_M = (known["places"] >= first) & (known["places"] < end)
        places, entities = (tf.boolean_mask(known[name], inside_M) for name in ("places", "rows"))
        block["known_positives"] = {"places": places - first, "rows": entities}
    return block


def _by_source(on_shared: list[tf.Tensor], embedded: _Embedded) -> _Embedded:
    """Gradient on the shared columns -> on what this process encoded of them."""
    if "catalogue" in embedded:
        return {"catalogue": on_shared}
    num_own = tf.shape(embedded["positives"][0])[0]
    num_all, first = num_own * num_replicas(), num_own * replica()
    # Every process has made a part of the gradient of every positive.
    positives = [summed(gradient[:num_all])[first : first + num_own] for gradient in on_shared]
    sampled = {"sampled": [gradient[num_all:] for gradient in on_shared]} if "sampled" in embedded else {}
    return {"positives": positives, **sampled}


def _stream(source: str, seed: tf.Tensor | None) -> tf.Tensor | None:
    """Dropout seed of a source: columns that all processes share draw the same in all, rows draw apart."""
    if seed is None:
        return None
    seed = fold_in(seed, _STREAMS[source]) if _STREAMS[source] else seed
    shared = num_replicas() == 1 or source in ("sampled", "catalogue")
    return seed if shared else fold_in(seed, -1 - replica())
