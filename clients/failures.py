"""From what tritonclient raises to our errors: by HTTP status, gRPC code, the server's words or the exception."""

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
BY_STATUS: dict[str, type[ClientError]] = {
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
# Triton answers some of these as plain 400s or UNAVAILABLE, and gRPC has one code for all that goes wrong on the way;
# their words tell them apart. The first entry that fits wins.
BY_WORDS: dict[str, type[ClientError]] = {
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
    """Everything that tritonclient lets through when a request fails."""
    import aiohttp

    return (InferenceServerException, OSError, aiohttp.ClientError, http.client.HTTPException)


def translate(error: BaseException, connection: Connection, what: str) -> ClientError:
    """Our error for one of tritonclient's, with the server's own words kept."""
    where = f"{connection.protocol}://{connection.url}"
    if isinstance(error, InferenceServerException):
        return from_tritonclient(error, f"{what} at {where}", where)
    if isinstance(error, TimeoutError):
        return DeadlineExceeded(f"{what} at {where}: no answer within {connection.timeout_s:g} s (--timeout)")
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return TlsFailed(f"{what} at {where}: {error}; check --ca-file, --cert-file and the server's own certificate")
    reason = str(error) or type(error).__name__
    return connection_lost(f"{what} at {where}", reason) if was_open(error) else nothing_answers(where, reason)


def was_open(error: BaseException) -> bool:
    """Whether a connection broke that the request may have gone through."""
    import aiohttp

    if isinstance(error, ConnectionRefusedError | aiohttp.ClientConnectorError):
        return False
    return isinstance(error, ConnectionError | ssl.SSLError | http.client.HTTPException | aiohttp.ClientError)


def from_tritonclient(error: InferenceServerException, what: str, where: str) -> ClientError:
    """Our error for an answer with an error, or for any failure of gRPC."""
    message = str(error.message() or error)
    kind = kind_of(str(error.status() or ""), message)
    if kind is ServerUnavailable and "failed to connect" in message:
        return nothing_answers(where, message)
    return connection_lost(what, message) if kind is ConnectionLost else kind(f"{what}: {message}")


def connection_lost(what: str, reason: str) -> ConnectionLost:
    """The error of a connection that broke before the answer was here."""
    return ConnectionLost(
        f"{what}: the connection broke before the answer came ({reason}); see the server's log, "
        "and check --protocol and the TLS options"
    )


def nothing_answers(where: str, reason: str) -> ServerUnavailable:
    """The error of a connection that did not come about."""
    return ServerUnavailable(
        f"no server answers at {where} ({reason}); start one with `python -m tools.serve`, "
        "or check --url, --protocol and the TLS options"
    )


def kind_of(status: str, message: str) -> type[ClientError]:
    """Which of our errors a status and its words stand for."""
    for words, kind in BY_WORDS.items():
        if words in message:
            return kind
    if status in BY_STATUS:
        return BY_STATUS[status]
    return RequestRejected if status.startswith("4") else ServerFailed
