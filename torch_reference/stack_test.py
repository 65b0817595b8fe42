import subprocess
import sys
import textwrap

from torch_reference.stack import STACK

BLOCKED = ("tensorflow", "keras", "tf_keras", "tensorflow_recommenders", "scann", "tfrs_models")


def test_the_stack_offers_a_trainer_encoders_and_the_exact_index(make_example):
    example = make_example()
    trainer = STACK.trainer(example.config, example.sizes, example.state)
    loss = trainer.step([example.batch(0)], learning_rate=0.1).loss
    assert loss > trainer.step([example.batch(0)], learning_rate=0.1).loss
    weights = {name.removeprefix("weights/"): a for name, a in trainer.state().items() if name.startswith("weights/")}
    encoders = STACK.encoders(example.config, example.sizes, weights)
    assert encoders.encode_queries(example.batch(0).query_features).shape == (8, 6)
    assert STACK.name == "torch_reference"
    assert {"exact"} <= set(STACK.indexes) <= {"exact", "faiss"}


def test_the_stack_runs_with_tensorflow_blocked():
    program = f"""
        import sys
        for name in {BLOCKED!r}:
            sys.modules[name] = None  # any import of it fails
        import torch_reference.stack
        import torch_reference.train, torch_reference.evaluate, torch_reference.embed
        import torch_reference.build_index, torch_reference.recommend
        print(torch_reference.stack.STACK.name)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "torch_reference", done.stderr
