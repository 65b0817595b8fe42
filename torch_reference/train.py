"""Train a run: `python -m torch_reference.train --help`."""

from retrieval_contract.verbs import train
from torch_reference.stack import STACK


def main() -> None:
    """Run the verb with this stack."""
    train.main(STACK)


if __name__ == "__main__":
    main()
