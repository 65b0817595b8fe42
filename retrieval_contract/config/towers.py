"""The encoders, and how their vectors become a score."""

import itertools
from typing import Literal, Self

import pydantic

from retrieval_contract.config.base import Count, Fraction, Settings
from retrieval_contract.config.features import CrossFeature, Feature, HistoryFeature, looks_up_one_row


class Tower(Settings):
    """One encoder.

    Features put together, dropout, cross layers, hidden layers, a linear layer to the common width where needed.
    """

    features: tuple[Feature, ...]
    """Inputs, in the order in which they are put together."""
    combine: Literal["concat", "sum"] = "concat"
    """`sum` needs features of equal width."""
    feature_dropout: Fraction = 0.0
    """Dropout on the combined features, in training."""
    cross_layers: int = pydantic.Field(default=0, ge=0)
    """Deep cross layers (DCN-v2) behind the features: `x' = x0 * (x W + b) + x`, as wide as the features."""
    hidden_dims: tuple[Count, ...] = ()
    """Widths of the hidden layers; empty means none."""
    activation: Literal["relu", "gelu", "silu", "tanh"] = "relu"
    """Activation of the hidden layers (gelu is the exact form with erf)."""
    norm: Literal["none", "batch", "layer"] = "none"
    """Of the hidden layers, between kernel and activation. Layer norm: epsilon 1e-6. Batch norm: in training by the
    rows that are encoded together, epsilon 1e-3; its moving mean and variance (population form) keep 0.99 of themselves
    at every batch, and serve."""
    residual: bool = False
    """Add a hidden layer's input to its output, behind activation and dropout, where their widths are equal."""
    dropout: Fraction = 0.0
    """Dropout after each hidden layer, in training."""

    @pydantic.model_validator(mode="after")
    def _features_fit_together(self) -> Self:
        names = [feature.name for feature in self.features]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"a tower needs one feature or more, of distinct names; got {names}")
        if strange := [name for name in names if "." in name or not name]:
            raise ValueError(f"a feature's name has no dot and is not empty; got {strange}")
        if self.combine == "sum":
            if any(feature.kind == "numeric" and feature.output_width == 1 for feature in self.features):
                raise ValueError("combine=sum cannot add a numeric feature to embeddings; use concat")
            if len({feature.output_width for feature in self.features}) > 1:
                raise ValueError("combine=sum needs equal widths of all features")
        return self

    @pydantic.model_validator(mode="after")
    def _crosses_name_rows(self) -> Self:
        crossable = {
            feature.name
            for feature in self.features
            if looks_up_one_row(feature) and not isinstance(feature, CrossFeature)
        }
        for feature in self.features:
            if isinstance(feature, CrossFeature) and (
                strange := [name for name in feature.of if name not in crossable]
            ):
                raise ValueError(
                    f"feature {feature.name!r} crosses {strange}, which are no features of this tower that look up one "
                    f"row; there are {sorted(crossable)}"
                )
        return self

    @property
    def histories(self) -> tuple[HistoryFeature, ...]:
        """Its features of kind history."""
        return tuple(feature for feature in self.features if isinstance(feature, HistoryFeature))

    @property
    def num_interests(self) -> int:
        """Vectors I that the tower gives for each query."""
        return max((history.num_interests for history in self.histories), default=1)

    @property
    def combined_dim(self) -> int:
        """Width of the features put together."""
        widths = [feature.output_width for feature in self.features]
        return widths[0] if self.combine == "sum" else sum(widths)

    def projects_to(self, dim: int) -> bool:
        """True where the tower ends in a linear layer to the common width."""
        return bool(self.hidden_dims) or self.combined_dim != dim

    def layer_dims(self, dim: int) -> tuple[tuple[int, int], ...]:
        """(in, out) of every dense layer, the last linear one included, for towers that meet at width `dim`."""
        widths = [self.combined_dim, *self.hidden_dims, *([dim] if self.projects_to(dim) else [])]
        return tuple(itertools.pairwise(widths))


class Model(Settings):
    """How the two vectors become a score."""

    dim: Count = 32
    """Width of both towers' vectors. A tower with hidden layers, or whose features put together have another width,
    ends in a linear layer to this width; an id embedding of exactly this width is the vector itself."""
    normalize: bool = False
    """L2-normalise both vectors, so that the score is a cosine."""
    context_merge: Literal["sum", "gate"] = "sum"
    """With a context tower, how the query's vector q and the context's c become one: `q + c`; or `g * q + (1 - g) * c`
    with g = sigmoid([q, c] W + b), for each number. Normalised afterwards."""
    candidate_bias: bool = False
    """One learned number per row of the candidate-id vocabulary, added to the logits after the temperature."""
    candidate_bias_start: Literal["zeros", "log_popularity"] = "zeros"
    """Where the bias starts: at zero, or at log of the train count less its mean, unknown at 0 (for very cold data)."""
