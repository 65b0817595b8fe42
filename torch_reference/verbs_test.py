"""The verbs of this stack, run as a person would, with the other stack's frameworks blocked."""

import sys

from retrieval_contract.verbs.conformance import ReplicasConformance, VerbsConformance


class TestVerbs(VerbsConformance):
    stack_name = "torch_reference"
    blocked = ("tensorflow", "tf_keras", "tensorflow_recommenders", "scann")
    backends = ("exact", "faiss")


class TestReplicas(ReplicasConformance):
    stack_name = "torch_reference"

    def launches(self, *flags):
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        return [([*torchrun, "-m", "torch_reference.train", *flags], {})]
