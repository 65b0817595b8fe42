"""`python -m torch_reference.serve`; `--help` lists the flags."""

from retrieval_contract.verbs import serve
from torch_reference.stack import STACK


def main() -> None:
    """Run the verb on the command line's arguments and exit with its code."""
    serve.main(STACK, modules=("torch_reference.callables",))


if __name__ == "__main__":
    main()
