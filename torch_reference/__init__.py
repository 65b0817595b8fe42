"""The PyTorch stack: the same retrieval system as the TensorFlow one, written independently from the numerics.

Never imports TensorFlow. In a process that needs both, import this package's torch before TensorFlow.
"""

import os

# cuBLAS reads this once, when CUDA starts; without it its results may differ from run to run, and torch refuses to run
# deterministically on a GPU.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
