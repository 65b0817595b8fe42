"""`python -m tfrs_models.embed`; `--help` lists the flags."""

from retrieval_contract.verbs import embed
from tfrs_models.stack import STACK


def main() -> None:
    """Run the verb on the command line's arguments and exit with its code."""
    embed.main(STACK)


if __name__ == "__main__":
    main()
