"""How often a candidate is in a batch, estimated from the batches as they come.

Letters: B candidates of a batch, m hashes, H buckets of each.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from retrieval_contract.arrays import AnyArray, Float32Array, Int32Array
from retrieval_contract.config import Streaming
from retrieval_contract.errors import UserError

GAP, LAST_STEP, STEP = "sampling/gap", "sampling/last_step", "sampling/step"
"""Names of the state in a checkpoint."""
MOST_BUCKETS = 2**28
"""Buckets of all hashes together: 3 GB, which every checkpoint holds too."""
_BYTES_PER_BUCKET = 12
_MIXER = np.uint64(0xBF58476D1CE4E5B9)
"""Odd multiplier of the second round, one of SplitMix64's."""


class StreamingFrequency:
    """Average gap, in batches, between two appearances of a candidate; its inverse is the probability of a batch.

    For each hash h_k and bucket: `A` is the last step at which a candidate of the bucket came, `G` the running average
    of the gaps. A batch at step t (the first is 1) does for every distinct bucket that it hits

        G <- (1 - a) G + a (t - A);   A <- t

    and the estimate is `p = min_k 1 / G_k`, so `log_q = -log(max_k G_k)`: candidates that share a bucket make it look
    more frequent, and the rarest estimate is the least disturbed. A candidate that never came, and shares no bucket,
    has the starting gap. p is the chance of being in a batch at all: near B c / C for a rare candidate, below it for a
    frequent one. The constant log B changes no softmax.

    Memory: 12 bytes a bucket. Nothing is drawn; buckets depend on the entity row and the number of the hash alone, so
    they are the same in every process and version.

    Source: Yi, Yang, Hong et al., RecSys 2019, Algorithm 2 (one hash) and 3 (several). There ids are hashed, here rows.
    """

    def __init__(self, settings: Streaming) -> None:
        """Start with no batch seen.

        Args:
            settings: learning rate a, buckets H, hashes m, gap to start from.

        Raises:
            UserError: more buckets than `MOST_BUCKETS` in all.
        """
        num_hashes, num_buckets = shape = (settings.num_hashes, settings.num_buckets)
        if num_hashes * num_buckets > MOST_BUCKETS:
            size = num_hashes * num_buckets * _BYTES_PER_BUCKET / 2**30
            raise UserError(
                f"{num_hashes} x {num_buckets:,} buckets would take {size:,.0f} GiB, in memory and in every checkpoint",
                where="loss.streaming.num_hashes, loss.streaming.num_buckets",
                todo=f"lower one of them, to {MOST_BUCKETS:,} buckets in all at most",
            )
        self._rate = settings.rate
        self._gap = np.full(shape, settings.start_gap, np.float64)
        self._last_step = np.zeros(shape, np.int32)
        self._step = 0
        self._multipliers = np.array([[_mixed(2 * k + 1) | 1] for k in range(num_hashes)], np.uint64)
        self._offsets = np.array([[_mixed(2 * k + 2)] for k in range(num_hashes)], np.uint64)
        self._begins = np.arange(num_hashes)[:, None] * num_buckets

    def update(self, candidate_rows_B: Int32Array) -> None:
        """Count one batch.

        Args:
            candidate_rows_B: entity rows, 0 or more each; a bucket that several of them hit moves once.
        """
        self._step += 1
        places_mB = self._places(candidate_rows_B)
        gap, last_step = self._gap.reshape(-1), self._last_step.reshape(-1)
        # From old values to new ones, then assigned: duplicates all write the same.
        gap_mB = gap.take(places_mB)
        gap_mB *= 1 - self._rate
        gap_mB += self._rate * (self._step - last_step.take(places_mB))
        gap[places_mB] = gap_mB
        last_step[places_mB] = self._step

    def log_q(self, candidate_rows_B: Int32Array) -> Float32Array:
        """Estimate natural logs of the probabilities of being in a batch [B], without counting anything.

        The largest gap is taken before the log, in float64; the result is rounded to float32 and finite.
        """
        return -np.log(self._gap.reshape(-1).take(self._places(candidate_rows_B)).max(axis=0)).astype(np.float32)

    def state(self) -> dict[str, AnyArray]:
        """Copy everything out: `sampling/gap` float64 [m, H], `sampling/last_step` int32 [m, H], `sampling/step` int64.

        Gaps are float64 so that a resumed run goes on to the same bytes.
        """
        return {name: array.copy() for name, array in self._arrays().items()}

    def restore(self, state: Mapping[str, AnyArray]) -> None:
        """Go on from a state that `state` gave, under the same settings; other names in it are not read.

        Raises:
            UserError: an array is missing, or has another shape or type.
        """
        wanted = {name: (array.shape, array.dtype) for name, array in self._arrays().items()}
        found = {name: (state[name].shape, state[name].dtype) for name in wanted if name in state}
        if found != wanted:
            wrong = next(name for name in wanted if found.get(name) != wanted[name])
            raise UserError(
                f"the state of the streaming estimator does not fit: {wrong} is {found.get(wrong, 'missing')}",
                where="checkpoint",
                todo="resume with the settings of loss.log_q and loss.streaming that it was written with",
            )
        self._gap = np.array(state[GAP])
        self._last_step = np.array(state[LAST_STEP])
        self._step = int(state[STEP])

    def _arrays(self) -> dict[str, AnyArray]:
        return {GAP: self._gap, LAST_STEP: self._last_step, STEP: np.asarray(self._step, np.int64)}

    def _places(self, candidate_rows_B: Int32Array) -> NDArray[np.int64]:
        """Bucket of each candidate under each hash, as a place in the flattened arrays [m, B].

        Multiply, fold the high bits down, multiply, and scale the upper half to H. One multiplication alone would lay
        dense rows out at even steps, and then they collide in regular patterns instead of by chance.
        """
        bits_mB = candidate_rows_B.astype(np.uint64) * self._multipliers
        bits_mB += self._offsets
        bits_mB ^= bits_mB >> np.uint64(32)
        bits_mB *= _MIXER
        bits_mB >>= np.uint64(32)
        bits_mB *= np.uint64(self._gap.shape[1])
        bits_mB >>= np.uint64(32)
        return bits_mB.view(np.int64) + self._begins


def _mixed(number: int) -> int:
    """Fixed, well-mixed 64 bits of a small number: SplitMix64's output function (Steele, Lea and Flood, 2014)."""
    bits = number * 0x9E3779B97F4A7C15 % 2**64
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB % 2**64
    return bits ^ bits >> 31
