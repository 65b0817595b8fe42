"""Evaluate a run on its held-out rows: `python -m torch_reference.evaluate --help`."""

from retrieval_contract.verbs import evaluate
from torch_reference.stack import STACK


def main() -> None:
    """Run the verb with this stack."""
    evaluate.main(STACK)


if __name__ == "__main__":
    main()
