"""From `sys.argv` to an exit code: parse, run the verb, say faults in one line."""

import sys
from collections.abc import Callable, Sequence

from retrieval_contract.errors import RunError, UserError
from retrieval_contract.flags import Command, HelpRequestedError, parse
from retrieval_contract.runs.loop import InterruptedRunError
from retrieval_contract.stack import Stack

Body = Callable[[Stack, Command], None]


def run_command(verb: str, stack: Stack, body: Body, arguments: Sequence[str] | None = None) -> None:
    """Run a verb and leave the process with its exit code.

    0 done; 1 the run could not go on; 2 the user's mistake; 130 Ctrl-C. Anything unforeseen keeps its traceback.

    Args:
        verb: the verb's name.
        stack: the implementation.
        body: what the verb does.
        arguments: words of the command line; those of the process by default.
    """
    sys.exit(exit_code(verb, stack, body, sys.argv[1:] if arguments is None else arguments))


def exit_code(verb: str, stack: Stack, body: Body, arguments: Sequence[str]) -> int:
    """Run a verb and return its exit code (see `run_command`)."""
    try:
        _obey(verb, stack, body, arguments)
    except UserError as error:
        return _fault(stack, verb, error, 2)
    except InterruptedRunError as error:
        return _fault(stack, verb, error, 130)
    except RunError as error:
        return _fault(stack, verb, error, 1)
    except KeyboardInterrupt:
        return _fault(stack, verb, KeyboardInterrupt("stopped at once; the last checkpoint stands"), 130)
    except BrokenPipeError:
        # The reader (head, less) went away; stdout must not complain again while the interpreter closes it.
        sys.stdout = None  # type: ignore[assignment]
    return 0


def _obey(verb: str, stack: Stack, body: Body, arguments: Sequence[str]) -> None:
    try:
        command = parse(verb, arguments)
    except HelpRequestedError as text:
        print(f"python -m {stack.name}.{verb}: {text}")
        return
    body(stack, command)


def _fault(stack: Stack, verb: str, error: BaseException, code: int) -> int:
    print(f"{stack.name}.{verb}: {' '.join(str(error).split())}", file=sys.stderr)
    return code
