"""Write the candidate vectors of a run: `python -m torch_reference.embed --help`."""

from retrieval_contract.verbs import embed
from torch_reference.stack import STACK


def main() -> None:
    """Run the verb with this stack."""
    embed.main(STACK)


if __name__ == "__main__":
    main()
