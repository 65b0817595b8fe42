"""The verbs of this stack, run as a person would, with the other stack's frameworks blocked."""

from retrieval_contract.verbs.conformance import VerbsConformance


class TestVerbs(VerbsConformance):
    stack_name = "torch_reference"
    blocked = ("tensorflow", "tf_keras", "tensorflow_recommenders", "scann")
    backends = ("exact", "faiss")
