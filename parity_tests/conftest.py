"""In one process torch must be loaded before TensorFlow; this file is loaded before any parity test."""

import torch  # noqa: F401  (first: TensorFlow loaded before it makes it crash)

import tfrs_models  # noqa: F401  (sets TF_USE_LEGACY_KERAS before TensorFlow is loaded)
