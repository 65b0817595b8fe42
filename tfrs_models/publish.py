"""`python -m tfrs_models.publish`; `--help` lists the flags."""

from retrieval_contract.verbs import publish
from tfrs_models.stack import STACK


def main() -> None:
    """Run the verb on the command line's arguments and exit with its code."""
    publish.main(STACK)


if __name__ == "__main__":
    main()
