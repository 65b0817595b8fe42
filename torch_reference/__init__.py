"""The PyTorch stack: the same retrieval system as the TensorFlow one, written independently from the numerics.

Never imports TensorFlow. In a process that needs both, import this package's torch before TensorFlow.
"""

import os

# cuBLAS reads this once, when CUDA starts; without it its results may differ from run to run, and torch refuses to run
# deterministically on a GPU.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
# Read once, when torch loads. OpenMP's threads spin for a long time while they wait for one another: beside a busy
# process that halves the rate, and it triples the CPU time of small steps. 2,000 rounds are microseconds: nearly the
# rate of long spinning on a quiet machine, and nearly that of no spinning on a busy one (BUILD_NOTES.md).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
