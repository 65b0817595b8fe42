"""Where a feature may stand and what it may name, over all towers of a run: read by `RunConfig`.

A sentence names the feature and both values that do not agree.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from retrieval_contract.config.features import (
    AffinityFeature,
    BaseLookup,
    CategoricalFeature,
    CrossFeature,
    HistoryFeature,
    IdFeature,
    MultivalentFeature,
    is_at_request,
    table_width,
)
from retrieval_contract.config.histories import GruPooling, TransformerPooling

if TYPE_CHECKING:
    from retrieval_contract.config.features import Feature
    from retrieval_contract.config.run import RunConfig


def feature_refusals(config: "RunConfig") -> list[str]:
    """One sentence for each feature that stands or points where it cannot."""
    rules = (_places, _affinities, _histories, _shared_tables, _interests, _positions, _batch_norm)
    return [sentence for rule in rules for sentence in rule(config)]


def _places(config: "RunConfig") -> Iterator[str]:
    for feature in config.candidate.features:
        if isinstance(feature, HistoryFeature | AffinityFeature):
            article = "an" if feature.kind == "affinity" else "a"
            yield f"{article} {feature.kind} belongs to a query; the candidate tower cannot have one ({feature.name!r})"
        if is_at_request(feature):
            yield f"feature {feature.name!r} has at=request, and a candidate's vector is made before any request"
    if config.model.candidate_bias and config.candidate_id_feature is None:
        yield "model.candidate_bias needs a feature of kind id in the candidate tower"
    if config.context is not None and any(feature.name == "context" for feature in config.query.features):
        yield "query feature 'context' has the name that the context tower's features stand under; call it otherwise"
    for feature in config.context.features if config.context is not None else ():
        if not is_at_request(feature) and not isinstance(feature, CrossFeature):
            yield (
                f"feature {feature.name!r} of kind {feature.kind} is none of the request; the context tower takes "
                "features with at=request, and crosses of them"
            )


def _affinities(config: "RunConfig") -> Iterator[str]:
    known = _by_name(config)
    for feature in config.query.features:
        if not isinstance(feature, AffinityFeature):
            continue
        of = known.get(feature.of)
        if not isinstance(of, CategoricalFeature | MultivalentFeature) or of.num_buckets is not None:
            found = "is absent from" if of is None else f"is of kind {of.kind} in"
            if isinstance(of, CategoricalFeature | MultivalentFeature):
                found = f"hashes into {of.num_buckets} buckets in"
            yield (
                f"affinity {feature.name!r} is of {feature.of!r}, which {found} the candidate tower; it needs a "
                f"categorical or multivalent feature with a vocabulary; there are {sorted(known)}"
            )


def _histories(config: "RunConfig") -> Iterator[str]:
    known = _by_name(config)
    for history in config.query.histories:
        for name in history.fields:
            field = known.get(name)
            if field is None or isinstance(field, IdFeature):
                found = (
                    "absent from the candidate tower" if field is None else "the candidate's id, which ids=true adds"
                )
                yield f"history {history.name!r} has the field {name!r}, which is {found}; there are {sorted(known)}"
            elif history.shares and table_width(field) not in (0, history.width):
                yield (
                    f"history {history.name!r} of width {history.width} shares the table of {name!r}, whose width is "
                    f"{table_width(field)}; make them equal"
                )
        if history.shares and history.ids:
            own = config.candidate_id_feature
            if own is None or own.width != history.width:
                found = "has no feature of kind id" if own is None else f"has {own.name!r} of width {own.width}"
                yield f"history {history.name!r} of width {history.width} shares ids, and the candidate tower {found}"


def _shared_tables(config: "RunConfig") -> Iterator[str]:
    known = _by_name(config)
    for side, tower in config.towers.items():
        for feature in tower.features:
            if not isinstance(feature, BaseLookup) or feature.shares is None:
                continue
            if side == "candidate":
                yield f"feature {feature.name!r} shares {feature.shares!r} within its own tower; unset shares"
                continue
            target = known.get(feature.shares)
            if not isinstance(target, BaseLookup) or table_width(target) != feature.width:
                found = f"has a table of width {table_width(target)} in" if target is not None else "is absent from"
                if target is not None and not (isinstance(target, BaseLookup) and table_width(target)):
                    found = f"is of kind {target.kind} and has no vocabulary's table in"
                yield (
                    f"feature {feature.name!r} of width {feature.width} shares {feature.shares!r}, which {found} the "
                    f"candidate tower; there are {sorted(known)}"
                )


def _interests(config: "RunConfig") -> Iterator[str]:
    several = [history.name for history in config.query.histories if history.num_interests > 1]
    if len(several) > 1:
        yield f"histories {several} give several vectors each; one of them may"
    if several and config.query.combine == "sum":
        yield f"history {several[0]!r} gives several vectors, and combine=sum adds one; use concat"
    if several and config.training.chunk_size is not None:
        yield f"training.chunk_size caches one vector a query, and history {several[0]!r} gives several; unset it"


def _positions(config: "RunConfig") -> Iterator[str]:
    training = config.training
    if training.positions == "last":
        if training.sort_by_length is not None:
            yield "training.sort_by_length sorts whole histories; set training.positions=all, or unset it"
        return
    features = config.query.features
    sequential = isinstance(features[0], HistoryFeature) and isinstance(
        features[0].pooling, GruPooling | TransformerPooling
    )
    if len(features) > 1 or not sequential or config.context is not None:
        yield (
            "training.positions=all predicts at every place of one history, with pooling gru or transformer, and no "
            f"other query feature or context tower; got {[f'{feature.name} ({feature.kind})' for feature in features]}"
        )
    if training.chunk_size is not None:
        yield "training.chunk_size cuts batches of single examples; unset it with training.positions=all"
    if config.query.norm == "batch":
        yield "query.norm=batch would mix the places of a history; use layer with training.positions=all"


def _batch_norm(config: "RunConfig") -> Iterator[str]:
    normed = [side for side, tower in config.towers.items() if tower.norm == "batch"]
    if normed and config.training.chunk_size is not None:
        yield f"{normed[0]}.norm=batch needs the whole batch at once; unset training.chunk_size, or use layer"
    if normed and config.negatives.bank.momentum is not None:
        yield f"{normed[0]}.norm=batch has statistics that no moving average of weights fits; use layer"
    if normed and config.optimizer.accumulation_steps > 1:
        yield f"{normed[0]}.norm=batch counts a step's batches apart; set optimizer.accumulation_steps=1, or use layer"


def _by_name(config: "RunConfig") -> "dict[str, Feature]":
    return {feature.name: feature for feature in config.candidate.features}
