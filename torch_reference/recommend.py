"""Recommend candidates to a query: `python -m torch_reference.recommend --help`."""

from retrieval_contract.verbs import recommend
from torch_reference.stack import STACK


def main() -> None:
    """Run the verb with this stack."""
    recommend.main(STACK)


if __name__ == "__main__":
    main()
