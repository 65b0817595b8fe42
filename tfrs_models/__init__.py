"""The TensorFlow Recommenders stack. Importing it loads no TensorFlow; it only makes sure that Keras will be Keras 2.

TFRS runs on Keras 2 (`tf_keras`) alone, and TensorFlow chooses its Keras once, when it is first imported. So the choice
is made here, and whoever imported TensorFlow with Keras 3 before is told.
"""

import os
import sys


def _refuse_keras_3() -> None:
    """Raise if TensorFlow is loaded with Keras 3 (which alone has `tf.keras.version`)."""
    tensorflow = sys.modules.get("tensorflow")
    version = getattr(getattr(tensorflow, "keras", None), "version", None)
    if version is not None:
        raise RuntimeError(
            f"TensorFlow is already loaded with Keras {version()}, and TensorFlow Recommenders needs Keras 2: "
            "import tfrs_models before tensorflow, or set TF_USE_LEGACY_KERAS=1 before Python starts"
        )


_refuse_keras_3()
os.environ["TF_USE_LEGACY_KERAS"] = "1"
# Level 2 would still print `failed call to cuInit` on every machine without a GPU; real errors come as exceptions.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# One process may hold torch as well: take GPU memory as it is needed, not all of it at the start.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
