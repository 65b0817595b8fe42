"""The one table of tolerances: room and dtype -> how far two of the three corners may be apart, and why.

No other file of the parity tests holds a tolerance (`house_test.py` looks). None of these is widened to make a test
pass: a failure is looked into with the oracle first, and a wider entry needs a reason that names the arithmetic.
"""

from dataclasses import dataclass
from typing import Literal

Dtype = Literal["bytes", "float32", "float64"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Two numbers a and b are the same where |a - b| <= atol + rtol |oracle|."""

    rtol: float
    """Relative part, of the oracle's value."""
    atol: float
    """Absolute part, in the unit of the compared array."""
    reason: str
    """Where the figure comes from."""
    exact: bool = False
    """Shape, dtype and every byte must be equal; rtol and atol are not looked at."""


TOLERANCES: dict[tuple[str, Dtype], Rule] = {
    ("batches", "bytes"): Rule(rtol=0, atol=0, exact=True, reason="conversion moves bytes and computes nothing"),
    ("weights", "bytes"): Rule(rtol=0, atol=0, exact=True, reason="renaming and transposing compute nothing"),
    ("log_q", "float32"): Rule(
        rtol=2e-7, atol=2e-7, reason="computed in float64 and rounded to float32 once: at most one last place (2^-23)"
    ),
    ("forward", "float64"): Rule(rtol=1e-9, atol=1e-12, reason="sums of tens of terms of size 1, rounded at 1e-16"),
    ("forward", "float32"): Rule(rtol=1e-5, atol=1e-6, reason="sums of tens of terms of size 1, rounded at 6e-8"),
    ("encoders", "float32"): Rule(
        rtol=2e-7, atol=1e-12, reason="computed in float64 and rounded to float32 once: at most one last place (2^-23)"
    ),
    ("answers", "float32"): Rule(
        rtol=1e-5, atol=1e-5, reason="an inner product of tens of terms of size 1 with a vector computed in float32"
    ),
    ("loss", "float64"): Rule(rtol=1e-9, atol=1e-12, reason="a mean of a few logsumexps, rounded at 1e-16"),
    ("loss", "float32"): Rule(rtol=2e-6, atol=1e-6, reason="logits of size 10 rounded at 1e-6, then averaged"),
    ("loss_of_thousands", "float32"): Rule(
        rtol=2e-6, atol=1e-2, reason="logits of 1e4 rounded at 1e-3, ten of them added up"
    ),
    ("gradient", "float64"): Rule(rtol=1e-9, atol=1e-12, reason="the same sums twice over, rounded at 1e-16"),
    ("gradient", "float32"): Rule(
        rtol=2e-5, atol=1e-6, reason="differences of probabilities rounded at 6e-8, over temperatures down to 0.1"
    ),
    ("deep_gradient", "float64"): Rule(rtol=1e-9, atol=1e-12, reason="as gradient"),
    ("deep_gradient", "float32"): Rule(
        rtol=4e-5,
        atol=2e-6,
        reason="as gradient, and back through layer norms of four numbers, each of which divides by their deviation of "
        "some tenths: 1.25 times the rule above was measured behind five of them, at temperature 0.3",
    ),
    ("gradient_norm", "float32"): Rule(rtol=2e-6, atol=1e-7, reason="a root of a sum of squares of float32 gradients"),
    ("limit", "float64"): Rule(rtol=0, atol=1e-11, reason="w x at x = log(1e-14) + 3 is about 1e-12, and falls to 0"),
    ("central_difference", "float64"): Rule(
        rtol=1e-6, atol=1e-8, reason="step 1e-5: truncation 1e-10 times the third derivative, rounding 1e-16 / 1e-5"
    ),
    ("step_weights", "float32"): Rule(
        rtol=1e-5, atol=1e-6, reason="a float32 gradient through one root and one quotient"
    ),
    ("step_slots", "float32"): Rule(
        rtol=1e-4, atol=2e-8, reason="squares of float32 gradients have twice their relative error, and may be small"
    ),
    ("deep_step_weights", "float32"): Rule(rtol=1e-5, atol=1e-6, reason="as step_weights"),
    ("deep_step_slots", "float32"): Rule(
        rtol=1e-4,
        atol=2e-7,
        reason="as step_slots; of a bias in front of a batch norm, whose gradient is 0, a first moment holds the "
        "rounding of a sum of gradients of size 1: 6e-8 was measured",
    ),
    ("drift_weights", "float32"): Rule(
        rtol=1e-4,
        atol=1e-5,
        reason="the drift bound: after 20 steps of about 0.05 a rounding error has grown tenfold, not more",
    ),
    ("drift_slots", "float32"): Rule(rtol=1e-4, atol=2e-6, reason="gradients at weights that have drifted as above"),
    ("drift_losses", "float32"): Rule(
        rtol=2e-5, atol=2e-6, reason="losses and norms at weights that have drifted as above"
    ),
    ("metrics", "float64"): Rule(rtol=1e-12, atol=1e-12, reason="sums of at most dozens of rationals in float64"),
    ("scores", "float32"): Rule(
        rtol=1e-5, atol=1e-6, reason="libraries add up an inner product of float32 in an order of their own"
    ),
}
"""Every tolerance of the parity tests."""


def rule(room: str, dtype: Dtype) -> Rule:
    """Look a tolerance up; a room that is not in the table is a mistake of the test."""
    return TOLERANCES[room, dtype]


QUALITY_CONFIDENCE = 0.95
"""Rung 7: confidence of the paired interval over nine seeds, which must contain 0."""
QUALITY_MARGINS = {"recall@10": 0.003, "mrr": 0.01, "accuracy@10": 0.003, "accuracy@100": 0.003}
"""Rung 7: largest mean difference over nine seeds, four standard deviations of that mean (dropout alone moves one
seed's recall@10 by 0.002 and its mrr by 0.007)."""
QUALITY_WITHOUT_DROPOUT = {"recall@10": 2e-4, "mrr": 1e-3}
"""Rung 7: largest difference of any seed where nothing is drawn; 0 was measured, two of 943 queries may flip."""
QUALITY_OF_TOWERS = {"recall@10": 2.5e-3, "mrr": 1e-3}
"""Rung 7 in small: largest difference where no framework draws anything. 0 was measured of most towers, 0.0011 and
0.0003 of `video`; one candidate that crosses the tenth place of one of 400 queries moves recall by 0.0025."""
QUALITY_OF_DRAWN_ROUTING = {"recall@10": 0.02, "mrr": 0.02}
"""The same of MIND, whose routing each framework draws anew for every batch: two seeds of a tower differ by up to 0.04,
and 0.006 was measured."""
ORDERING_CORRELATION = 0.9
"""Ordering by popularity or not: least correlation, at the lower end of its interval, that counts as the same order.
The two truths of the experiment correlate by 0.6 with each other."""
