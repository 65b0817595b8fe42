"""Build an index from a run's candidate vectors: `python -m torch_reference.build_index --help`."""

from retrieval_contract.verbs import build_index
from torch_reference.stack import STACK


def main() -> None:
    """Run the verb with this stack."""
    build_index.main(STACK)


if __name__ == "__main__":
    main()
