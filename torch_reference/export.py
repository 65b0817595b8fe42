"""Write a model that serves without this project: `python -m torch_reference.export --help`."""

from retrieval_contract.verbs import export
from torch_reference.stack import STACK


def main() -> None:
    """Run the verb with this stack."""
    export.main(STACK)


if __name__ == "__main__":
    main()
