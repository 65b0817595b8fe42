"""Keras 2 or a clear word, in fresh interpreters."""

import os
import subprocess
import sys
from pathlib import Path


def _run(code, **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**clean, **environment},
        cwd=Path(__file__).parents[1],
        check=False,
    )


def test_importing_the_stack_loads_no_tensorflow():
    done = _run("import sys, tfrs_models, tfrs_models.stack; assert 'tensorflow' not in sys.modules")
    assert done.returncode == 0, done.stderr


def test_keras_is_2_whatever_the_environment_said():
    done = _run("import tfrs_models, tensorflow_recommenders; print('ok')", TF_USE_LEGACY_KERAS="0")
    assert (done.returncode, done.stdout.strip()) == (0, "ok"), done.stderr
    assert done.stderr == ""


def test_tensorflow_loaded_before_with_keras_3_is_refused():
    done = _run("import tensorflow, tfrs_models")
    assert done.returncode != 0
    assert "RuntimeError: TensorFlow is already loaded with Keras 3." in done.stderr
    assert "import tfrs_models before tensorflow" in done.stderr


def test_tensorflow_loaded_before_with_keras_2_is_fine():
    done = _run("import tensorflow, tfrs_models", TF_USE_LEGACY_KERAS="1")
    assert done.returncode == 0, done.stderr
