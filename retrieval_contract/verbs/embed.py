"""`embed`: the vectors of the whole catalogue, written as shards with a manifest."""

from collections.abc import Sequence

from retrieval_contract.arrays import Vectors
from retrieval_contract.flags import Command, saved_config
from retrieval_contract.runs.opened import open_run
from retrieval_contract.runs.workdir import Workdir
from retrieval_contract.stack import Stack
from retrieval_contract.vectors.store import write_vectors
from retrieval_contract.verbs.command import run_command


def main(stack: Stack, arguments: Sequence[str] | None = None) -> None:
    """Entry of `python -m STACK.embed`."""
    run_command("embed", stack, run, arguments)


def run(stack: Stack, command: Command) -> None:
    """Encode every candidate and write the vectors."""
    opened = open_run(stack, saved_config(command), Workdir(command.workdir))
    values = opened.encoders.encode_candidates(opened.prepared.candidate_features())
    vectors = Vectors(ids=opened.prepared.candidates.ids, values=values, weights_digest=opened.weights_digest)
    write_vectors(opened.workdir.vectors, vectors)
    print(f"{len(vectors.ids):,} vectors of width {values.shape[1]} written to {opened.workdir.vectors}")
