"""`python -m torch_reference.publish`; `--help` lists the flags."""

from retrieval_contract.verbs import publish
from torch_reference.stack import STACK


def main() -> None:
    """Run the verb on the command line's arguments and exit with its code."""
    publish.main(STACK)


if __name__ == "__main__":
    main()
