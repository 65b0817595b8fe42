"""Update rule, length and bookkeeping of training."""

from typing import Annotated, Literal, Self

import pydantic
from pydantic import Field

from retrieval_contract.config.base import Count, Fraction, NotNegative, Positive, Settings


class Optimizer(Settings):
    """One update rule, the same in both stacks; embedding rows outside the batch do not move."""

    kind: Literal["adagrad", "adam", "adamw", "sgd"] = "adagrad"
    """Update rule."""
    learning_rate: Positive = 0.1
    """Peak learning rate."""
    beta_1: Fraction = 0.9
    """Adam, AdamW: decay of the first moment."""
    beta_2: Fraction = 0.999
    """Adam, AdamW: decay of the second moment."""
    epsilon: Positive = 1e-8
    """Added to the square root, after bias correction, in Adam, AdamW and Adagrad."""
    initial_accumulator: NotNegative = 0.1
    """Adagrad: where the sum of squares starts."""
    momentum: Fraction = 0.0
    """SGD: v = momentum v + g; p -= lr v."""
    weight_decay: NotNegative = 0.0
    """AdamW: p -= lr weight_decay p before the step; embedding rows of the batch and kernels, never dense biases."""
    decay_candidate_bias: bool = False
    """AdamW: let weight decay act on the candidate bias too."""
    clip_norm: Positive | None = None
    """Scale the gradient of all parameters together to at most this L2 norm; none means no clipping."""
    accumulation_steps: Count = 1
    """Batches whose mean gradient makes one step."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps of linear rise from 0 to the peak."""
    schedule: Literal["constant", "cosine"] = "constant"
    """After warm-up: stay, or fall to 0 along a half cosine at the last step."""

    @pydantic.model_validator(mode="after")
    def _decay_belongs_to_adamw(self) -> Self:
        if self.weight_decay and self.kind != "adamw":
            raise ValueError(f"weight_decay acts in adamw only; kind is {self.kind}")
        return self


class Training(Settings):
    """Length and bookkeeping of training."""

    epochs: Count = 10
    """Passes over the train positives."""
    positions: Literal["last", "all"] = "last"
    """`last`: an example is one train positive with the history before it. `all`: an example is one query with its last
    L + 1 train positives, of which each but the first is predicted from those before it, all in one pass (SASRec); the
    query tower is then one history with pooling gru or transformer."""
    batch_size: Annotated[int, Field(ge=2)] = 1_024
    """Examples in a batch; each positive's negatives are the others. The last, short batch of an epoch is left out."""
    sort_by_length: Count | None = None
    """With positions=all: sort the examples of every so many batches by length, so that a batch is hardly padded, and
    shuffle the batches again; none leaves them in random order."""
    embedding_stddev: Positive = 0.05
    """Standard deviation of the normal that embedding tables start from."""
    chunk_size: Count | None = None
    """Examples encoded with a graph at a time (cached gradients): the batch keeps all its negatives, memory follows the
    chunk. The gradient is the same; dropout draws anew for each chunk. None encodes the batch at once."""
    encode_once: tuple[Literal["query", "candidate"], ...] = ()
    """Sides whose tower encodes each distinct row of a batch once and gives all its copies the vector: in batches drawn
    from interactions about half are copies. Loss and gradient are the same but for rounding. For towers whose features
    belong to the entity and that neither drop out nor take a batch's statistics."""
    checkpoint_every_steps: Count = 500
    """Steps between checkpoints; one is also written at the end of every epoch."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU where the framework sees one."""
