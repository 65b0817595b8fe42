"""A run from its first step to its report: workdir, checkpoints, learning-rate schedule, loop."""
