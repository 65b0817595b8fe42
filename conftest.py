"""Pytest's first import: where one process holds both frameworks, PyTorch must come before TensorFlow."""

import os

import pytest
import torch  # noqa: F401

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
pytest.register_assert_rewrite(
    "retrieval_contract.verbs.conformance", "retrieval_contract.indexes.conformance", "parity_tests.comparing"
)
