"""The verbs of this stack, run as a person would, with the other stack's frameworks blocked."""

import json
import socket
import sys

from retrieval_contract.verbs.conformance import ReplicasConformance, VerbsConformance


class TestVerbs(VerbsConformance):
    stack_name = "tfrs_models"
    blocked = ("torch", "faiss")
    backends = ("exact", "partitioned", "scann")


class TestReplicas(ReplicasConformance):
    stack_name = "tfrs_models"

    def launches(self, *flags):
        workers = [f"localhost:{port}" for port in _free_ports(2)]
        words = [sys.executable, "-m", "tfrs_models.train", *flags]
        tasks = [{"type": "worker", "index": index} for index in range(2)]
        return [(words, {"TF_CONFIG": json.dumps({"cluster": {"worker": workers}, "task": task})}) for task in tasks]


def _free_ports(num):
    """Ports that nobody listened on a moment ago; distinct, because all are held until the last is found."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(num)]
    ports = [held.getsockname()[1] for held in sockets]
    for held in sockets:
        held.close()
    return ports
