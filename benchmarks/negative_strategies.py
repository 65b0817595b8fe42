"""The strategies of `benchmarks.negatives`: what each changes in the loss and the negatives, and what is tuned for it.

A change is a piece of the configuration's tree; everything else is the data set's, the same for all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.negative_datasets import BATCH_SIZE
from retrieval_contract.config import RunConfig

TEMPERATURES = (0.03, 0.07, 0.15, 0.3)
REFERENCE = "exact"
"""What every other strategy is compared with."""
BANK = {"num_batches": 4, "warmup_steps": 150}
"""Chosen on validation: the more batches, and the earlier their vectors count, the more a bank hurt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """One way to train on the same examples."""

    title: str
    """What reports call it."""
    loss: Mapping[str, Any] = field(default_factory=dict)
    """Changes of `Loss`."""
    negatives: Mapping[str, Any] = field(default_factory=dict)
    """Changes of `Negatives`."""
    knob: Literal["temperature", "margin"] = "temperature"
    """Field of `Loss` that is tuned for it."""
    values: tuple[float, ...] = TEMPERATURES
    """What is tried."""

    def configured(self, base: RunConfig, *, value: float, seed: int) -> RunConfig:
        """Change a data set's run.

        Args:
            base: the run.
            value: of the knob.
            seed: of the run.
        """
        tree = base.model_dump()
        tree["loss"] |= {**self.loss, self.knob: value}
        tree["negatives"] |= self.negatives
        return RunConfig.model_validate({**tree, "seed": seed})

    @property
    def mines(self) -> bool:
        """True where hard negatives are mined on the way."""
        return "mined" in self.negatives


STRATEGIES: dict[str, Strategy] = {
    "exact": Strategy(title="in-batch, exact logQ"),
    "none": Strategy(title="in-batch, no correction", loss={"log_q": "none"}),
    # With the paper's rate of 0.01 a few hundred steps are too few for the gaps to be learned.
    "streaming": Strategy(title="in-batch, streaming logQ", loss={"log_q": "streaming", "streaming": {"rate": 0.1}}),
    "refined": Strategy(title="in-batch, refined logQ", loss={"log_q": "refined"}),
    "learned_temperature": Strategy(title="exact logQ, temperature learned", loss={"learn_temperature": True}),
    "known_positives": Strategy(title="exact logQ, known positives masked", negatives={"mask_known_positives": True}),
    "mixed": Strategy(title="exact logQ, uniform samples mixed in", negatives={"sampled": BATCH_SIZE}),
    "bank": Strategy(title="exact logQ, bank of 4 batches", negatives={"bank": BANK}),
    "bank_momentum": Strategy(
        title="exact logQ, bank by moving average", negatives={"bank": {**BANK, "momentum": 0.999}}
    ),
    "hardest": Strategy(title="exact logQ, hardest 64 in the batch", negatives={"hardest": 64}),
    "mined": Strategy(title="exact logQ, mined hard negatives", negatives={"mined": {"per_example": 1}}),
    "full_softmax": Strategy(title="full softmax", loss={"kind": "full_softmax", "log_q": "none"}),
    "bpr": Strategy(title="BPR", loss={"kind": "bpr", "log_q": "none"}),
    "triplet": Strategy(
        title="triplet",
        loss={"kind": "triplet", "log_q": "none", "temperature": 1.0},
        knob="margin",
        values=(0.1, 0.3, 0.8, 1.5),
    ),
    "contrastive": Strategy(
        title="contrastive",
        loss={"kind": "contrastive", "log_q": "none", "temperature": 1.0},
        knob="margin",
        values=(0.1, 0.25, 0.5, 1.0),
    ),
    "sigmoid": Strategy(title="sigmoid", loss={"kind": "sigmoid", "log_q": "none"}),
    "gbce": Strategy(
        title="gBCE, uniform samples mixed in",
        loss={"kind": "gbce", "log_q": "none"},
        negatives={"sampled": BATCH_SIZE},
    ),
}
"""By the name that `--strategy` takes; the reference first, so that nothing waits for it."""
