"""Which losses, corrections and negatives do not go together, and why: read by `RunConfig`, before anything is loaded.

What is not refused here is combined in the order of the numerics.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retrieval_contract.config import RunConfig, Tower


def refusals(config: "RunConfig") -> list[str]:
    """One sentence for each refused combination: what, why, and what to set instead."""
    rules = (_corrections, _full_softmax, _refined, _streaming, _bank, _contrastive, _chunks, _encode_once)
    return [sentence for rule in rules for sentence in rule(config)]


def _corrections(config: "RunConfig") -> Iterator[str]:
    loss = config.loss
    if loss.kind != "softmax" and loss.log_q != "none":
        why = "scores every candidate and samples none" if loss.kind == "full_softmax" else "has no log-sum to correct"
        yield f"loss.kind={loss.kind} {why}; set loss.log_q=none"


def _full_softmax(config: "RunConfig") -> Iterator[str]:
    if config.loss.kind != "full_softmax":
        return
    negatives = config.negatives
    sources = _extra_sources(config) + (["bank"] if negatives.bank.num_batches else [])
    if sources:
        named = ", ".join(f"negatives.{name}" for name in sources)
        yield f"loss.kind=full_softmax has every candidate as a column already; turn off {named}"
    if negatives.mask_not_yet_seen:
        yield "negatives.mask_not_yet_seen masks columns of a batch, and full_softmax has none; turn one of them off"
    if config.training.chunk_size is not None:
        yield "training.chunk_size caches a batch's vectors, and full_softmax needs the catalogue's; unset it"


def _refined(config: "RunConfig") -> Iterator[str]:
    if config.loss.log_q != "refined":
        return
    if not config.loss.remove_accidental_hits:
        yield "loss.log_q=refined is derived for negatives that are not the positive; set loss.remove_accidental_hits"
    if config.negatives.hardest is not None:
        yield "loss.log_q=refined averages over all negatives, negatives.hardest keeps few; turn one of them off"


def _streaming(config: "RunConfig") -> Iterator[str]:
    extra = _extra_sources(config)
    if config.loss.log_q == "streaming" and extra:
        named = ", ".join(f"negatives.{name}" for name in extra)
        yield (
            "loss.log_q=streaming knows only candidates that came in a batch, and the correction of a mixture needs "
            f"the probability of all; turn off {named}, or set loss.log_q=exact"
        )


def _bank(config: "RunConfig") -> Iterator[str]:
    bank, extra = config.negatives.bank, _extra_sources(config)
    if not bank.num_batches:
        if bank.momentum is not None:
            yield "negatives.bank.momentum fills a bank, and there is none; set negatives.bank.num_batches"
        return
    if extra and config.loss.log_q != "none":
        named = ", ".join(f"negatives.{name}" for name in extra)
        yield (
            "the mixture's correction would need the bank's share of the columns, which grows while it fills; turn "
            f"off negatives.bank or {named}, or set loss.log_q=none"
        )
    if config.negatives.mask_not_yet_seen:
        yield "negatives.mask_not_yet_seen covers a batch's own columns and not negatives.bank; turn one of them off"


def _contrastive(config: "RunConfig") -> Iterator[str]:
    loss = config.loss
    if loss.kind != "contrastive":
        return
    if not config.model.normalize or config.model.candidate_bias or loss.temperature != 1 or loss.learn_temperature:
        yield (
            "loss.kind=contrastive measures the distance 1 - cosine; set model.normalize=true, "
            "model.candidate_bias=false, loss.temperature=1, loss.learn_temperature=false"
        )


def _chunks(config: "RunConfig") -> Iterator[str]:
    chunk, batch = config.training.chunk_size, config.training.batch_size
    if chunk is not None and chunk > batch:
        yield f"training.chunk_size {chunk:,} is larger than training.batch_size {batch:,}; lower or unset it"


def _encode_once(config: "RunConfig") -> Iterator[str]:
    once = config.training.encode_once
    if once and config.training.chunk_size is not None:
        yield "training.encode_once needs the whole batch's rows, and training.chunk_size cuts it; unset one of them"
    if "candidate" in once and config.loss.kind == "full_softmax":
        yield (
            "loss.kind=full_softmax encodes the catalogue, where every candidate stands once; take candidate out of "
            "training.encode_once"
        )
    if "query" in once and config.context is not None:
        yield "the context tower's features are of the request and no query's; take query out of training.encode_once"
    for side in once:
        yield from _copies(side, config.query if side == "query" else config.candidate)


def _copies(side: str, tower: "Tower") -> Iterator[str]:
    """Why copies of a row may not be equal, or may have to be counted, in the tower of a side."""
    out = f"take {side} out of training.encode_once"
    if tower.dropout or tower.feature_dropout:
        yield f"{side}.dropout and {side}.feature_dropout draw for each copy of a row anew; set both to 0, or {out}"
    if tower.norm == "batch":
        yield f"{side}.norm=batch counts a row as often as it stands in the batch; use layer, or {out}"
    for feature in tower.features:
        if getattr(feature, "unknown_rate", 0):
            yield f"feature {feature.name!r} has an unknown_rate, which replaces one copy and not another; {out}"
        if feature.kind in ("history", "affinity") or getattr(feature, "at", "entity") == "request":
            yield f"feature {feature.name!r} is of the moment, so copies of a row differ in it; {out}"


def _extra_sources(config: "RunConfig") -> list[str]:
    """Names of the configured sources of columns beside the batch and the bank."""
    negatives = config.negatives
    sizes = {
        "sampled": negatives.sampled,
        "impressions": negatives.impressions,
        "mined": negatives.mined.per_example,
    }
    return [name for name, size in sizes.items() if size]
