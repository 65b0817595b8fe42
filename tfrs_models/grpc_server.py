"""TF Serving's gRPC interface, `PredictionService.Predict`, in front of the same service as the REST interface.

Tensors mean what they mean to an exported model: NaN, the least int64 and the byte 0xFF are missing values, rectangles
are filled with empty texts. Letters: B queries, K results.
"""

import time
from collections.abc import Iterable, Mapping
from concurrent import futures
from http import HTTPStatus
from typing import Any, final

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from retrieval_contract.data.columns import nearest
from retrieval_contract.errors import UserError
from retrieval_contract.serving import logs
from retrieval_contract.serving.model import Version
from retrieval_contract.serving.predict_messages import outputs_of, question_of
from retrieval_contract.serving.raw_inputs import Form
from retrieval_contract.serving.raw_rows import MISSING_MOMENT
from retrieval_contract.serving.refusal import Refusal, bad
from retrieval_contract.serving.service import Service
from retrieval_contract.serving.signatures import DEFAULT, VECTORS, K, Signature

ROUTE = "grpc:Predict"
THREADS = 16
"""Requests that are unpacked and waited for at the same time; what they ask is answered together."""
GRACE_SECONDS = 10.0
_CODES: Mapping[int, grpc.StatusCode] = {
    HTTPStatus.BAD_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    HTTPStatus.SERVICE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    HTTPStatus.INTERNAL_SERVER_ERROR: grpc.StatusCode.INTERNAL,
}


@final
class GrpcServer:
    """A running server (`verbs.serve.Stoppable`)."""

    def __init__(self, server: grpc.Server, port: int) -> None:
        self._server, self.port = server, port

    def stop(self) -> None:
        """Take nothing more, and finish what is under way."""
        self._server.stop(GRACE_SECONDS).wait()


def start_grpc(service: Service, host: str, port: int) -> GrpcServer:
    """Answer on an address and a port, without encryption, as TF Serving does by default.

    Raises:
        UserError: the port is taken.
    """
    options = [("grpc.max_receive_message_length", service.limits.body_bytes), ("grpc.so_reuseport", 0)]
    server = grpc.server(futures.ThreadPoolExecutor(THREADS, "grpc"), options=options)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Predictions(service), server)
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_insecure_port(where)
    except RuntimeError:
        bound = 0
    if not bound:
        raise UserError("cannot listen", where=where, todo="stop what listens there, or give another --grpc_port")
    server.start()
    return GrpcServer(server, bound)


class _Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
    """The servicer; other methods than Predict are UNIMPLEMENTED."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Answer one request; every outcome becomes an answer or a status, and a count."""
        began, status, answer, message = time.perf_counter(), int(HTTPStatus.OK), None, ""
        try:
            answer = self._answer(request, context)
        except Refusal as refusal:
            status, message = refusal.status, refusal.message
        except Exception as error:  # ours: told in the log, and the server lives
            logs.fault("request_failed", error, route=ROUTE)
            status, message = int(HTTPStatus.INTERNAL_SERVER_ERROR), "internal error; the server's log has it"
        seconds = time.perf_counter() - began
        self._service.metrics.requested(ROUTE, status, seconds)
        logs.say("request", route=ROUTE, status=int(status), ms=round(1e3 * seconds, 3))
        if answer is None:
            context.abort(_CODES.get(status, grpc.StatusCode.UNKNOWN), message)
        return answer

    def _answer(self, request: Any, context: grpc.ServicerContext) -> Any:
        spec, service = request.model_spec, self._service
        if spec.version_label:
            raise bad("labels mean nothing here", field="model_spec.version_label", todo="give a version, or none")
        version = service.version(spec.name, str(spec.version.value) if spec.HasField("version") else None)
        signatures, name = service.signatures(version), spec.signature_name or DEFAULT
        if name not in signatures:
            raise bad(f"no signature {name!r}", field="model_spec.signature_name", todo=nearest(name, signatures))
        columns = {
            name_: _column(request.inputs[name_], name_, signatures[name], service.limits.body_bytes)
            for name_ in _in_order(request.inputs, signatures[name])
        }
        question = question_of(columns, version, signatures[name], service.limits)
        left = context.time_remaining()
        seconds = service.limits.seconds if left is None else max(0.0, min(left, service.limits.seconds))
        return _response(outputs_of(service.ask_and_wait(question, seconds)), request, version, name)


def _in_order(names: Iterable[str], signature: Signature) -> list[str]:
    """Order inputs as the signature does, others behind: a message's map has no order, refusals shall have one."""
    places = {name: place for place, name in enumerate(signature.inputs)}
    return sorted(names, key=lambda name: (places.get(name, len(places)), name))


def _response(outputs: Mapping[str, Any], request: Any, version: Version, signature: str) -> Any:
    wanted = list(request.output_filter) or list(outputs)
    for name in wanted:
        if name not in outputs:
            raise bad(f"no output {name!r}", field="output_filter", todo=nearest(name, outputs))
    response = predict_pb2.PredictResponse()
    response.model_spec.name, response.model_spec.signature_name = request.model_spec.name, signature
    response.model_spec.version.value = version.number
    for name in wanted:
        dtype = tf.string if name == "ids" else tf.float32
        response.outputs[name].CopyFrom(tf.make_tensor_proto(outputs[name], dtype))
    return response


def _column(tensor: Any, name: str, signature: Signature, most_bytes: int) -> Any:
    """A tensor as JSON would have it."""
    # One value may stand for a tensor of any shape: a few bytes that would fill the memory.
    if np.prod([float(dim.size) for dim in tensor.tensor_shape.dim]) > most_bytes:
        raise bad("a tensor larger than a message may be", field=name)
    try:
        values = tf.make_ndarray(tensor)
    except (TypeError, ValueError, KeyError):
        raise bad("no tensor", field=name, todo="shape, type and values must agree") from None
    if name == K:
        return values.tolist()
    raw = signature.features.get(name)
    if raw is not None:
        return _feature(values, raw.form)
    if name == VECTORS:
        return values.tolist()
    try:
        return _decoded(values.tolist())
    except UnicodeDecodeError:
        raise bad("bytes that are not UTF-8", field=name) from None


def _feature(values: np.ndarray, form: Form) -> Any:
    """Rows of a raw feature, None where the exported model's missing value stands."""
    if form in ("number", "numbers"):
        return _without(values, np.isnan(values)) if values.dtype.kind == "f" else values.tolist()
    if form in ("moment", "moments"):
        return _without(values, values == MISSING_MOMENT)
    if form == "vector" and values.dtype.kind == "f" and values.ndim == 2:
        return [None if missing else row for row, missing in zip(values.tolist(), np.isnan(values).any(1), strict=True)]
    return values.tolist()


def _without(values: np.ndarray, missing: np.ndarray) -> Any:
    filled = values.astype(object)
    filled[missing] = None
    return filled.tolist()


def _decoded(values: Any) -> Any:
    if isinstance(values, list):
        return [_decoded(value) for value in values]
    return values.decode() if isinstance(values, bytes) else values
