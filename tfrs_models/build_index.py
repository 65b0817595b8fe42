"""`python -m tfrs_models.build_index`; `--help` lists the flags."""

from retrieval_contract.verbs import build_index
from tfrs_models.stack import STACK


def main() -> None:
    """Run the verb on the command line's arguments and exit with its code."""
    build_index.main(STACK)


if __name__ == "__main__":
    main()
