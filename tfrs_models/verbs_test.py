"""The verbs of this stack, run as a person would, with the other stack's frameworks blocked."""

from retrieval_contract.verbs.conformance import VerbsConformance


class TestVerbs(VerbsConformance):
    stack_name = "tfrs_models"
    blocked = ("torch", "faiss")
    backends = ("exact", "scann")
