"""The PyTorch stack: the same retrieval system as the TensorFlow one, written independently from the numerics.

Never imports TensorFlow. In a process that needs both, import this package's torch before TensorFlow.
"""

import os

# cuBLAS reads this once, when CUDA starts; without it its results may differ from run to run, and torch refuses to run
# deterministically on a GPU.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
# Read once, when torch loads. Its OpenMP threads otherwise spin while they wait for one another: a training step took
# three times the CPU time, and ten times the wall time beside another busy process.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
