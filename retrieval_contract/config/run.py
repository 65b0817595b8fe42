"""RunConfig: everything that decides what a run computes, as one frozen tree with one branch per room."""

import hashlib
import json
from typing import Annotated, Literal, Self

import pydantic
import yaml
from pydantic import Field

from retrieval_contract.combinations import refusals
from retrieval_contract.config.agreement import feature_refusals
from retrieval_contract.config.base import Settings
from retrieval_contract.config.evaluation import Evaluation, Index
from retrieval_contract.config.features import IdFeature
from retrieval_contract.config.losses import Loss, Negatives
from retrieval_contract.config.rows import Positives, SplitRule
from retrieval_contract.config.sources import SimulatedSource, Source
from retrieval_contract.config.towers import Model, Tower
from retrieval_contract.config.training import Optimizer, Training

Side = Literal["query", "context", "candidate"]
"""The towers."""

PLACES = (
    ("source", "data_dir"),
    ("training", "device"),
    ("training", "encode_once"),
    ("training", "checkpoint_every_steps"),
)
"""Fields that say where or how, never what: left out of the digest."""


class RunConfig(Settings):
    """One run, whole."""

    name: str = "run"
    """Shown in reports."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of initial weights, batch order and dropout; the data's own seed is `split.seed` or the source's."""
    source: Source = SimulatedSource()
    positives: Positives = Positives()
    split: SplitRule = SplitRule()
    query: Tower
    candidate: Tower
    context: Tower | None = None
    """A third tower, of the request; its vector joins the query's (`model.context_merge`)."""
    model: Model = Model()
    loss: Loss = Loss()
    negatives: Negatives = Negatives()
    optimizer: Optimizer = Optimizer()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    index: Index = Index()

    @pydantic.model_validator(mode="after")
    def _rooms_agree(self) -> Self:
        refused = feature_refusals(self) + refusals(self)
        if refused:
            raise ValueError("; ".join(refused))
        return self

    @property
    def candidate_id_feature(self) -> IdFeature | None:
        """The candidate tower's feature of kind id, whose vocabulary the candidate bias shares."""
        return next((feature for feature in self.candidate.features if isinstance(feature, IdFeature)), None)

    @property
    def towers(self) -> dict[Side, Tower]:
        """Its towers by side: query, context where there is one, candidate."""
        context: dict[Side, Tower] = {} if self.context is None else {"context": self.context}
        return {"query": self.query, **context, "candidate": self.candidate}

    @property
    def num_interests(self) -> int:
        """Vectors I that the query tower gives for each query; 1 of all but the multi-interest towers."""
        return self.query.num_interests

    @property
    def vector_dim(self) -> int:
        """Width D of a served vector: the towers' width, and one more for the candidate bias."""
        return self.model.dim + int(self.model.candidate_bias)

    def digest(self) -> str:
        """SHA-256 of the canonical JSON, without the fields in `PLACES`."""
        tree = self.model_dump(mode="json")
        for room, field in PLACES:
            tree[room].pop(field, None)
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()

    def to_yaml(self) -> str:
        """The file that repeats the run: every field, defaults included."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
