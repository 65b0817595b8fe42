"""`python -m tfrs_models.serve`; `--help` lists the flags."""

from typing import Any

from retrieval_contract.verbs import serve
from tfrs_models.stack import STACK


def main() -> None:
    """Run the verb on the command line's arguments and exit with its code."""
    serve.main(STACK, modules=("tfrs_models.callables",), start_grpc=_start_grpc)


def _start_grpc(*arguments: Any) -> Any:
    """Import what gRPC needs where it is asked for."""
    from tfrs_models.grpc_server import start_grpc

    return start_grpc(*arguments)


if __name__ == "__main__":
    main()
