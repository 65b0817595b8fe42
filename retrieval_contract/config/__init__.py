"""RunConfig: everything that decides what a run computes, as one frozen tree with one branch per room.

Unknown keys and wrong types are refused and the nearest key is named. Two runs with the same `digest()` on the same
data compute the same thing; where files lie and which device computes are not part of it.
"""

from retrieval_contract.config.base import Settings
from retrieval_contract.config.evaluation import Evaluation, Index
from retrieval_contract.config.features import (
    AffinityFeature,
    CategoricalFeature,
    CrossFeature,
    DenseFeature,
    Feature,
    HistoryFeature,
    IdFeature,
    LookupFeature,
    MultivalentFeature,
    NumericFeature,
    TextFeature,
    TimeFeature,
    is_at_request,
    looks_up_one_row,
    table_width,
)
from retrieval_contract.config.histories import (
    AttentionPooling,
    ComiRecPooling,
    GruPooling,
    MeanPooling,
    MindPooling,
    TransformerPooling,
    WeightedMeanPooling,
)
from retrieval_contract.config.losses import Bank, Loss, Mined, Negatives, Streaming
from retrieval_contract.config.rows import Positives, SplitRule
from retrieval_contract.config.run import RunConfig, Side
from retrieval_contract.config.sources import (
    FilesSource,
    MovieLensSource,
    SimulatedSource,
    SimulatedVideoSource,
    Source,
)
from retrieval_contract.config.towers import Model, Tower
from retrieval_contract.config.training import Optimizer, Training

__all__ = [
    "AffinityFeature",
    "AttentionPooling",
    "Bank",
    "CategoricalFeature",
    "ComiRecPooling",
    "CrossFeature",
    "DenseFeature",
    "Evaluation",
    "Feature",
    "FilesSource",
    "GruPooling",
    "HistoryFeature",
    "IdFeature",
    "Index",
    "LookupFeature",
    "Loss",
    "MeanPooling",
    "MindPooling",
    "Mined",
    "Model",
    "MovieLensSource",
    "MultivalentFeature",
    "Negatives",
    "NumericFeature",
    "Optimizer",
    "Positives",
    "RunConfig",
    "Settings",
    "Side",
    "SimulatedSource",
    "SimulatedVideoSource",
    "Source",
    "SplitRule",
    "Streaming",
    "TextFeature",
    "TimeFeature",
    "Tower",
    "Training",
    "TransformerPooling",
    "WeightedMeanPooling",
    "is_at_request",
    "looks_up_one_row",
    "table_width",
]
