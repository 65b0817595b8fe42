"""In one process torch must be loaded before TensorFlow; this file is loaded before any parity test."""

# isort: off
import torch_reference.stack  # noqa: F401  (first: torch loaded after TensorFlow makes it crash)
import tfrs_models  # noqa: F401  (sets TF_USE_LEGACY_KERAS before TensorFlow is loaded)
