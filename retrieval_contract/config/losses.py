"""What is minimised, and against which candidates."""

import math
from typing import Annotated, Literal, Self

import numpy as np
import pydantic
from pydantic import Field

from retrieval_contract.config.base import Count, Fraction, NotNegative, Positive, Settings


class Streaming(Settings):
    """Estimator of how often a candidate is in a batch, from the batches alone (Yi et al., RecSys 2019, Alg. 2, 3)."""

    rate: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = 0.01
    """Learning rate of the average gap between two appearances."""
    num_buckets: Annotated[int, Field(ge=1, le=2**31)] = 1_000_000
    """Buckets of each hash; candidates that share one look more frequent than they are."""
    num_hashes: Annotated[int, Field(ge=1, le=16)] = 1
    """Hashes; the rarest estimate of all is taken."""
    start_gap: Positive = 100.0
    """Gap, in batches, before a bucket was met."""


class Loss(Settings):
    """What is minimised over the logits of a batch (numerics: order on the logits, other losses)."""

    kind: Literal["softmax", "full_softmax", "bpr", "triplet", "contrastive", "sigmoid", "gbce"] = "softmax"
    """`softmax` over the batch's columns; `full_softmax` over the whole catalogue, encoded anew at every step; `bpr`,
    `triplet` and `contrastive` compare pairs, `sigmoid` (SigLIP's form, with a learned bias) and `gbce` judge each pair
    alone."""
    temperature: Positive = 1.0
    """Divides the inner product, before the bias and before log_q; where it is learned, its start."""
    learn_temperature: bool = False
    """Learn the temperature, as exp of a parameter that stays inside `temperature_range`."""
    temperature_range: tuple[Positive, Positive] = (0.01, 10.0)
    """Least and largest learned temperature."""
    log_q: Literal["none", "exact", "streaming", "refined"] = "exact"
    """Sampling-bias correction subtracted from the logits (softmax only): from the train counts; from the streaming
    estimator of Yi et al. 2019; or Khrylchenko et al. 2025, which leaves the positive uncorrected and outside the
    denominator, and weights each row by how far it is from learned."""
    streaming: Streaming = Streaming()
    """The estimator behind log_q=streaming."""
    remove_accidental_hits: bool = True
    """Other columns holding the same candidate as a row's positive get -inf."""
    margin: NotNegative = 0.2
    """Triplet: how far a positive's logit must be above a negative's. Contrastive: distance (1 - cosine) from which on
    a negative is left alone."""
    gbce_t: Annotated[float, Field(ge=0, le=1)] = 0.75
    """gBCE: calibration t; 0 is plain binary cross-entropy, 1 undoes the over-confidence of negative sampling whole."""
    sigmoid_bias: Annotated[float, Field(allow_inf_nan=False)] = -10.0
    """Sigmoid: where the learned bias starts (SigLIP's start, at which all pairs look negative)."""

    @pydantic.model_validator(mode="after")
    def _temperature_is_inside_its_range(self) -> Self:
        low, high = self.temperature_range
        if low >= high:
            raise ValueError(f"temperature_range must rise; got {low} to {high}")
        if self.learn_temperature and not low <= self.temperature <= high:
            raise ValueError(f"temperature {self.temperature} is outside temperature_range {low} to {high}")
        return self

    @property
    def log_temperature_range(self) -> tuple[float, float]:
        """Bounds of the learned parameter, rounded to float32 so that it can stand on them in every dtype."""
        low, high = (float(np.float32(math.log(bound))) for bound in self.temperature_range)
        return low, high


class Mined(Settings):
    """Offline hard negatives: every few epochs the current index is searched with the training queries."""

    per_example: Annotated[int, Field(ge=0)] = 0
    """Extra columns of a batch, per example of it; 0 turns mining off."""
    hard_fraction: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Share of those columns that are mined; the rest is drawn from the whole catalogue, as all are before the first
    mining."""
    every_epochs: Count = 1
    """Mine after every so many epochs, with the towers of then."""
    first_rank: Count = 10
    """Best rank taken, known positives not counted: those above are too often positives that nobody has met yet."""
    last_rank: Count = 100
    """Last rank taken."""

    @pydantic.model_validator(mode="after")
    def _ranks_rise(self) -> Self:
        if self.first_rank > self.last_rank:
            raise ValueError(f"first_rank {self.first_rank} is behind last_rank {self.last_rank}")
        return self


class Bank(Settings):
    """Cross-batch negatives: a first-in, first-out store of candidate vectors of earlier batches, without gradient."""

    num_batches: Annotated[int, Field(ge=0)] = 0
    """Batches that it holds; 0 turns it off."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Optimiser steps before its columns count: vectors of the first steps grow stale at once."""
    momentum: Fraction | None = None
    """Fill it with the vectors of a moving average of the candidate tower that keeps this share of itself at every step
    (0.999 is usual); none fills it with the batch's own vectors."""


class Negatives(Settings):
    """Which candidates stand against a positive beside the other positives of its batch, and which may not."""

    mask_known_positives: bool = False
    """Every candidate that the query has met as a train positive gets -inf in its row, the own positive excepted."""
    known_positives: Literal["all", "earlier"] = "all"
    """With mask_known_positives: all of the query's, or those before the example's moment. `earlier` leaves what it
    meets later as negatives, so that the next candidate is learned apart from the ones behind it."""
    mask_not_yet_seen: bool = False
    """The explicit mask: a candidate whose first train row is later than the example's could not have been chosen, and
    gets -inf in its row."""
    hardest: Count | None = None
    """Keep only the so many largest logits among a row's negatives."""
    sampled: Annotated[int, Field(ge=0)] = 0
    """Candidates drawn from the whole catalogue for every batch, columns of all its rows (mixed negative sampling)."""
    sampled_from: Literal["uniform", "popularity"] = "uniform"
    """Drawn evenly, or by train count."""
    impressions: Annotated[int, Field(ge=0)] = 0
    """Candidates shown to the query and not taken (train rows that are no positives), drawn per example, for its own
    row only."""
    mined: Mined = Mined()
    """Offline hard negatives."""
    bank: Bank = Bank()
    """Cross-batch negatives."""
