"""Which backend's index a run is served by: `index/chosen.json`, written where tuning has chosen."""

import json

from retrieval_contract.errors import UserError
from retrieval_contract.files import write_text
from retrieval_contract.runs.workdir import Workdir

NAME = "chosen.json"


def read_choice(workdir: Workdir) -> str | None:
    """Backend that tuning has chosen; None where nothing was tuned.

    Raises:
        UserError: the file is damaged.
    """
    path = workdir.indexes / NAME
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["backend"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        todo = "remove it, or run build_index --target_recall again"
        raise UserError(f"cannot read what was chosen ({error})", where=str(path), todo=todo) from None


def write_choice(workdir: Workdir, backend: str) -> None:
    """Note the backend whose index is the run's; the index must lie there already."""
    write_text(workdir.indexes / NAME, json.dumps({"backend": backend}) + "\n")


def forget_choice(workdir: Workdir, backend: str) -> bool:
    """Forget the choice where it is of this backend, whose index is to be replaced by one that was not measured.

    Returns:
        True where there was such a choice.
    """
    if read_choice(workdir) != backend:
        return False
    (workdir.indexes / NAME).unlink()
    return True
