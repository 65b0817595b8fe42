"""Pytest's first import: where one process holds both frameworks, PyTorch must come before TensorFlow."""

import importlib
import os

import pytest

import torch_reference  # noqa: F401  (says how torch's threads wait, before torch is loaded)

# Not the import alone: torch's first use of this setting loads Triton, where its build has one, and Triton behind
# TensorFlow ends the process with a segmentation fault.
importlib.import_module("torch").use_deterministic_algorithms(False)
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
pytest.register_assert_rewrite(
    "retrieval_contract.verbs.conformance",
    "retrieval_contract.verbs.tuning_conformance",
    "retrieval_contract.indexes.conformance",
    "retrieval_contract.indexes.live_conformance",
    "parity_tests.comparing",
)
