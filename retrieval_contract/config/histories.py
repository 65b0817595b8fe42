"""How the items of a history become one vector, or several: one class for each kind of pooling.

Letters: L items of a history, W width of an item, I interests. An empty history gives zeros.
"""

from typing import Annotated, Literal

from pydantic import Field

from retrieval_contract.config.base import Count, Fraction, Positive, Settings


class MeanPooling(Settings):
    """The mean of the items."""

    kind: Literal["mean"] = "mean"


class WeightedMeanPooling(Settings):
    """The mean of the items, each weighed by its interaction's weight, halved with every half-life of its age."""

    kind: Literal["weighted_mean"] = "weighted_mean"
    half_life_days: Positive | None = None
    """None does not look at age."""


class AttentionPooling(Settings):
    """Items weighed by a learned score: `softmax(v . tanh(h W + b))` over the real items."""

    kind: Literal["attention"] = "attention"


class GruPooling(Settings):
    """The state of a gated recurrent unit behind the last item (GRU4Rec).

    `r = sigmoid(x W_r + b_r + h U_r + c_r)`, `z` likewise, `n = tanh(x W_n + b_n + r * (h U_n + c_n))`,
    `h' = (1 - z) * n + z * h`, from h = 0; padded places leave the state as it is.
    """

    kind: Literal["gru"] = "gru"


class TransformerPooling(Settings):
    """A causal transformer over the items; the last real place is the vector (SASRec).

    Items plus learned positions, counted back from the newest item, and dropout; then blocks of pre-norm attention and
    feed-forward, each added to its input; then a layer norm (epsilon 1e-6).
    """

    kind: Literal["transformer"] = "transformer"
    num_blocks: Count = 2
    """Blocks."""
    num_heads: Count = 2
    """Heads; the history's width is a multiple."""
    feed_forward_dim: Count | None = None
    """Hidden width of the feed-forward part; none means the history's width."""
    activation: Literal["relu", "gelu", "silu", "tanh"] = "gelu"
    """Of the feed-forward part."""
    dropout: Fraction = 0.0
    """On attention weights, on what attention gives, behind the activation, and on what feed-forward gives."""


class MindPooling(Settings):
    """Capsules by dynamic routing (MIND, Li et al., CIKM 2019): I vectors; training takes what the label attends to.

    Routing logits start from N(0, 1), drawn anew for every batch of training, from a fixed draw when serving; softmax
    over the capsules, squash, and a gradient through the last iteration only.
    """

    kind: Literal["mind"] = "mind"
    num_interests: Annotated[int, Field(ge=2)] = 4
    """Capsules I."""
    num_iterations: Count = 3
    """Routing iterations."""
    power: Positive = 1.0
    """Label-aware attention: softmax over the capsules of `sign(s) |s|^power`, s = <capsule's vector, label>."""


class ComiRecPooling(Settings):
    """Self-attentive interests (ComiRec-SA, Cen et al., KDD 2020): I vectors; training takes the label's argmax.

    `A = softmax over the items of tanh((H + P) W1) W2` [L, I], P learned positions, counted back from the newest item;
    `U = A^T H`.
    """

    kind: Literal["comirec"] = "comirec"
    num_interests: Annotated[int, Field(ge=2)] = 4
    """Attention heads I."""
    attention_dim: Count = 32
    """Width between W1 and W2."""


HistoryPooling = Annotated[
    MeanPooling
    | WeightedMeanPooling
    | AttentionPooling
    | GruPooling
    | TransformerPooling
    | MindPooling
    | ComiRecPooling,
    Field(discriminator="kind"),
]
