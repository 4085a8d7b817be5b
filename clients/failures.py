"""Translate what tritonclient raises to our errors, by HTTP status, gRPC code, message or type of exception."""

import http.client
import ssl

from tritonclient.utils import InferenceServerException

from clients.connection import Connection
from clients.errors import (
    ClientError,
    ConnectionLost,
    DeadlineExceeded,
    ModelNotFound,
    RequestRejected,
    ServerFailed,
    ServerUnavailable,
    TlsFailed,
)

# By HTTP status and by gRPC code, as InferenceServerException.status() gives them.
_BY_STATUS: dict[str, type[ClientError]] = {
    "400": RequestRejected,
    "429": ServerUnavailable,
    "499": DeadlineExceeded,
    "502": ServerUnavailable,
    "503": ServerUnavailable,
    "504": DeadlineExceeded,
    "StatusCode.INVALID_ARGUMENT": RequestRejected,
    "StatusCode.NOT_FOUND": ModelNotFound,
    "StatusCode.DEADLINE_EXCEEDED": DeadlineExceeded,
    "StatusCode.UNAVAILABLE": ServerUnavailable,
    "StatusCode.RESOURCE_EXHAUSTED": ServerUnavailable,
    "StatusCode.UNIMPLEMENTED": RequestRejected,
}
# Triton gives some of these errors as plain 400s or UNAVAILABLE, and gRPC has one code for all failures of a
# connection; their messages tell them apart. The first entry that matches wins.
_BY_MESSAGE: dict[str, type[ClientError]] = {
    "unknown model": ModelNotFound,
    "requested model '": ModelNotFound,
    "has no available versions": ModelNotFound,
    "is not at ready state": ModelNotFound,
    "is restricted, expecting header": RequestRejected,
    "handshake failed": TlsFailed,
    "failed to connect": ServerUnavailable,
    "Socket closed": ConnectionLost,
    "Connection reset": ConnectionLost,
    "Broken pipe": ConnectionLost,
    "GOAWAY": ConnectionLost,
}


def transport_errors() -> tuple[type[BaseException], ...]:
    """All exceptions of tritonclient that mean a failed request."""
    import aiohttp

    return (InferenceServerException, OSError, aiohttp.ClientError, http.client.HTTPException)


def translate(error: BaseException, connection: Connection, what: str) -> ClientError:
    """Choose our error for one of tritonclient's; the server's own message is part of it."""
    where = f"{connection.protocol}://{connection.url}"
    if isinstance(error, InferenceServerException):
        return _from_tritonclient(error, f"{what} at {where}", where)
    if isinstance(error, TimeoutError):
        return DeadlineExceeded(f"{what} at {where}: no answer within {connection.timeout_s:g} s (--timeout)")
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return TlsFailed(f"{what} at {where}: {error}; check --ca-file, --cert-file and the server's own certificate")
    reason = str(error) or type(error).__name__
    return _connection_lost(f"{what} at {where}", reason) if _was_open(error) else _no_server(where, reason)


def _was_open(error: BaseException) -> bool:
    """Whether the connection was open, so that the request may have been sent."""
    import aiohttp

    if isinstance(error, ConnectionRefusedError | aiohttp.ClientConnectorError):
        return False
    return isinstance(error, ConnectionError | ssl.SSLError | http.client.HTTPException | aiohttp.ClientError)


def _from_tritonclient(error: InferenceServerException, what: str, where: str) -> ClientError:
    """Our error for a response with an error, or for any failure of gRPC."""
    message = str(error.message() or error)
    kind = _kind_of(str(error.status() or ""), message)
    if kind is ServerUnavailable and "failed to connect" in message:
        return _no_server(where, message)
    return _connection_lost(what, message) if kind is ConnectionLost else kind(f"{what}: {message}")


def _connection_lost(what: str, reason: str) -> ConnectionLost:
    return ConnectionLost(
        f"{what}: the connection broke before the answer came ({reason}); see the server's log, "
        "and check --protocol and the TLS options"
    )


def _no_server(where: str, reason: str) -> ServerUnavailable:
    return ServerUnavailable(
        f"no server answers at {where} ({reason}); start one with `python -m tools.serve`, "
        "or check --url, --protocol and the TLS options"
    )


def _kind_of(status: str, message: str) -> type[ClientError]:
    for words, kind in _BY_MESSAGE.items():
        if words in message:
            return kind
    return _BY_STATUS.get(status) or (RequestRejected if status.startswith("4") else ServerFailed)
