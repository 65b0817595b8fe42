"""The learning rate of each step, computed once for both stacks."""

import math

from retrieval_contract.config import Optimizer


def learning_rate(settings: Optimizer, *, step: int, num_steps: int) -> float:
    """Linear warm-up from 0 to the peak, then constant, or a half cosine that reaches 0 at the last step.

    Args:
        settings: `learning_rate`, `warmup_steps` and `schedule` are read.
        step: optimiser steps taken before this one, from 0.
        num_steps: optimiser steps of the whole run.

    Returns:
        The rate for step number `step + 1`. Edge: with as many warm-up steps as steps, the peak is the last one.
    """
    done = step + 1
    if done <= settings.warmup_steps:
        return settings.learning_rate * done / settings.warmup_steps
    if settings.schedule == "constant":
        return settings.learning_rate
    share = (done - settings.warmup_steps) / max(1, num_steps - settings.warmup_steps)
    return settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * min(1.0, share)))
