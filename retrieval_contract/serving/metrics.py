"""What the server counts, for Prometheus; nothing of what anybody asked."""

from collections.abc import Callable, Sequence
from typing import Any, final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from retrieval_contract.serving.model import Version
from retrieval_contract.serving.question import Answer, Question

SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
CONTENT_TYPE = CONTENT_TYPE_LATEST


@final
class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self, waiting_rows: Callable[[], int]) -> None:
        """Begin at zero.

        Args:
            waiting_rows: queries that wait or are being computed.
        """
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        where: Any = {"registry": self._registry, "namespace": "retrieval"}
        self._requests = Counter("requests", "Requests by route and status.", ("route", "status"), **where)
        self._seconds = Histogram("request_seconds", "From first byte to answer.", ("route",), buckets=SECONDS, **where)
        self._stages = Histogram(
            "stage_seconds", "Time of queue, encoding and search.", ("stage",), buckets=SECONDS, **where
        )
        self._batches = Histogram(
            "batch_rows", "Queries answered together.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256), **where
        )
        self._version = Gauge("model_version", "Number of the version that answers.", **where)
        self._size = Gauge("candidates", "Candidates of that version.", **where)
        self._sources = Counter("answers", "Recommendations by what they rest on.", ("source",), **where)
        Gauge("waiting_rows", "Queries that wait or are being computed.", **where).set_function(waiting_rows)

    def requested(self, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def answered(
        self, questions: Sequence[Question], answers: Sequence[Answer | Exception], waited: Sequence[float]
    ) -> None:
        """A batch was answered (`batching.Observer`)."""
        self._batches.observe(sum(question.num_rows for question in questions))
        stages = {name: self._stages.labels(name) for name in ("queue", "encode", "search")}
        for answer, seconds in zip(answers, waited, strict=True):
            stages["queue"].observe(seconds)
            if isinstance(answer, Answer):
                stages["encode"].observe(answer.encode_ms / 1e3)
                if answer.ids is not None:
                    stages["search"].observe(answer.search_ms / 1e3)

    def recommended(self, source: str) -> None:
        """A recommendation was made."""
        self._sources.labels(source).inc()

    def serves(self, version: Version) -> None:
        """Another version answers."""
        self._version.set(version.number)
        self._size.set(version.model.searcher.size)

    def page(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self._registry)
