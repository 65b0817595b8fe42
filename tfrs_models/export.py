"""`python -m tfrs_models.export`; `--help` lists the flags."""

from retrieval_contract.verbs import export
from tfrs_models.stack import STACK


def main() -> None:
    """Run the verb on the command line's arguments and exit with its code."""
    export.main(STACK)


if __name__ == "__main__":
    main()
