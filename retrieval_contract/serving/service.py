"""What each address does, without HTTP: from parsed bodies to bodies of answers.

The REST interface is TF Serving's (`/v1/models/NAME…`), so that its clients need no change; `:recommend`, `:update` and
`:remove` are ours.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, final

import numpy as np

from retrieval_contract.errors import UserError
from retrieval_contract.serving import logs
from retrieval_contract.serving.batching import Batcher
from retrieval_contract.serving.change_messages import Update, parse_remove, parse_update
from retrieval_contract.serving.checks import shorter
from retrieval_contract.serving.limits import Limits
from retrieval_contract.serving.metrics import Metrics
from retrieval_contract.serving.model import Changeable, Version
from retrieval_contract.serving.predict_messages import parse_predict, predict_answer
from retrieval_contract.serving.question import Answer, Question
from retrieval_contract.serving.recommend_messages import parse_recommend, recommend_answer
from retrieval_contract.serving.refusal import Refusal, of_user_error
from retrieval_contract.serving.signatures import Signature, metadata, signatures_of
from retrieval_contract.serving.watching import Serving

Body = dict[str, Any]


@final
class Service:
    """One model under one name."""

    def __init__(self, name: str, serving: Serving, limits: Limits) -> None:
        """Begin to answer.

        Args:
            name: in the addresses.
            serving: the version that answers.
            limits: of requests.
        """
        self.name, self.serving, self.limits = name, serving, limits
        self.batcher = Batcher(limits, observe=lambda *batch: self.metrics.answered(*batch))
        self.metrics = Metrics(lambda: self.batcher.waiting_rows)
        # One writer at a time; searches go on meanwhile.
        self._changes, self._moves = ThreadPoolExecutor(1, "changes"), ThreadPoolExecutor(1, "moves")
        self._tidying = threading.Lock()
        self._signatures: tuple[Version, Mapping[str, Signature]] | None = None
        if serving.version is not None:
            self.metrics.serves(serving.version)

    def close(self) -> None:
        """Answer what waits, and end the threads."""
        self.batcher.close()
        self._changes.shutdown()
        self._moves.shutdown()

    def swapped(self, version: Version, old: Version | None) -> None:
        """Another version answers (`watching.Watcher`); the old one is closed behind the changes that it was sent."""
        self.metrics.serves(version)
        if old is not None:
            with contextlib.suppress(RuntimeError):  # the server is stopping, and its process ends
                self._changes.submit(old.model.close)

    # ------------------------------------------------------------ the version

    def version(self, name: str, number: str | None = None) -> Version:
        """The version that a request is for; it must be held until the answer.

        Raises:
            Refusal: 404, another name or another number than what answers now.
        """
        version = self.serving.version
        if name == self.name and version is not None and number in (None, str(version.number)):
            return version
        wanted = f"Latest({shorter(name)})" if number is None else f"Specific({shorter(name)}, {shorter(number)})"
        raise Refusal(HTTPStatus.NOT_FOUND, f"Servable not found for request: {wanted}")

    def status(self, name: str, number: str | None) -> Body:
        """`GET /v1/models/NAME[/versions/V]`."""
        try:
            version = self.version(name, number)
        except Refusal:
            which = "any versions" if number is None else f"version {shorter(number)}"
            raise Refusal(HTTPStatus.NOT_FOUND, f"Could not find {which} of model {shorter(name)}") from None
        fine = {"error_code": "OK", "error_message": ""}
        return {"model_version_status": [{"version": str(version.number), "state": "AVAILABLE", "status": fine}]}

    def metadata(self, name: str, number: str | None) -> Body:
        """`GET …/metadata`."""
        version = self.version(name, number)
        return metadata(name, version.number, self.signatures(version))

    def signatures(self, version: Version) -> Mapping[str, Signature]:
        """Signatures of a version, made once."""
        kept = self._signatures
        if kept is None or kept[0] is not version:
            kept = self._signatures = version, signatures_of(version.model)
        return kept[1]

    # ------------------------------------------------------------ questions

    async def predict(self, version: Version, body: Any) -> Body:
        """`POST …:predict`."""
        asked = parse_predict(body, version, self.signatures(version), self.limits)
        return predict_answer(await self.ask(asked.question), asked)

    async def recommend(self, version: Version, body: Any) -> Body:
        """`POST …:recommend`."""
        began = time.perf_counter()
        question = parse_recommend(body, version, self.limits)
        parsed = time.perf_counter()
        answer = await self.ask(question)
        answered = time.perf_counter()
        out = recommend_answer(answer, version, timings_ms={})
        self.metrics.recommended(out["source"])
        waited = 1e3 * (answered - parsed) - answer.encode_ms - answer.search_ms
        timings = {
            "parse": 1e3 * (parsed - began),
            "queue": max(0.0, waited),
            "encode": answer.encode_ms,
            "search": answer.search_ms,
            "fields": 1e3 * (time.perf_counter() - answered),
        }
        out["timings_ms"] = {stage: round(ms, 3) for stage, ms in timings.items()}
        return out

    async def ask(self, question: Question) -> Answer:
        """Have a question answered with others, in time.

        Raises:
            Refusal: 503 where too much waits, 504 where it takes too long, 400 for a fault that was found on the way.
        """
        future = asyncio.wrap_future(self.batcher.submit(question))
        try:
            return await asyncio.wait_for(future, self.limits.seconds)
        except TimeoutError:
            what = f"no answer after {self.limits.seconds:g} s"
            raise Refusal(HTTPStatus.GATEWAY_TIMEOUT, what) from None
        except UserError as error:
            raise of_user_error(error) from None

    def ask_and_wait(self, question: Question, seconds: float) -> Answer:
        """Do what `ask` does, in a thread that may wait.

        Raises:
            Refusal: as `ask`.
        """
        future = self.batcher.submit(question)
        try:
            return future.result(seconds)
        except TimeoutError:
            future.cancel()
            raise Refusal(HTTPStatus.GATEWAY_TIMEOUT, f"no answer after {seconds:g} s") from None
        except UserError as error:
            raise of_user_error(error) from None

    # ------------------------------------------------------------ changes

    async def update(self, version: Version, body: Any) -> Body:
        """`POST …:update`: add candidates, or replace those that are there; all of the call, or none."""
        candidates = self._changeable(version)
        asked = parse_update(body, version.model, self.limits)
        vectors = asked.vectors if asked.vectors is not None else await self._encoded(version, asked)
        added, size = await self._change(
            candidates, candidates.put, asked.ids, np.ascontiguousarray(vectors), asked.attributes
        )
        counts = {"added": added, "updated": len(asked.ids) - added}
        return {"model_version": str(version.number), **counts, "candidates": size}

    async def remove(self, version: Version, body: Any) -> Body:
        """`POST …:remove`: those that are there; the others are named, and do no harm."""
        candidates = self._changeable(version)
        ids = parse_remove(body, self.limits)
        absent, size = await self._change(candidates, candidates.drop, ids)
        counts = {"removed": len(ids) - len(absent), "absent": absent}
        return {"model_version": str(version.number), **counts, "candidates": size}

    def _changeable(self, version: Version) -> Changeable:
        if version.model.changeable is None:
            raise Refusal(HTTPStatus.NOT_IMPLEMENTED, "the candidates of this version cannot be changed")
        return version.model.changeable

    async def _encoded(self, version: Version, asked: Update) -> Any:
        question = Question(
            version=version, operation="embed_candidate", num_rows=len(asked.ids), columns=asked.columns
        )
        return (await self.ask(question)).vectors

    async def _change(self, candidates: Changeable, change: Callable[..., Any], *arguments: Any) -> Any:
        try:
            done = await asyncio.get_running_loop().run_in_executor(self._changes, change, *arguments)
        except UserError as error:
            raise of_user_error(error) from None
        if not self._tidying.locked():
            self._moves.submit(self._tidy, candidates)
        return done

    def _tidy(self, candidates: Changeable) -> None:
        with self._tidying:
            try:
                candidates.tidy()
            except Exception as error:  # changes stay where they are, and are tried again with the next one
                logs.fault("tidy_failed", error)
