"""Which of our errors stands for one of tritonclient's, whether to try again, and after how long."""

import errno
import http.client
import random
import re
import ssl
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from tritonclient.utils import InferenceServerException

from clients import errors
from clients.connection import Connection
from clients.proxies import grpc_proxy

FIRST_DELAY_S, LONGEST_DELAY_S = 0.05, 2.0
# By HTTP status and by gRPC code, as InferenceServerException.status() gives them.
_BY_STATUS: dict[str, type[errors.ClientError]] = {
    "400": errors.RequestRejected,
    "429": errors.ServerUnavailable,
    "499": errors.DeadlineExceeded,
    "502": errors.ServerUnavailable,
    "503": errors.ServerUnavailable,
    "504": errors.DeadlineExceeded,
    "StatusCode.INVALID_ARGUMENT": errors.RequestRejected,
    "StatusCode.NOT_FOUND": errors.ModelNotFound,
    "StatusCode.DEADLINE_EXCEEDED": errors.DeadlineExceeded,
    "StatusCode.UNAVAILABLE": errors.ServerUnavailable,
    "StatusCode.RESOURCE_EXHAUSTED": errors.ServerUnavailable,
    "StatusCode.UNIMPLEMENTED": errors.RequestRejected,
    "StatusCode.UNAUTHENTICATED": errors.RequestRejected,
    "StatusCode.PERMISSION_DENIED": errors.RequestRejected,
}
# Triton gives some of these errors as plain 400s or UNAVAILABLE, and gRPC has one code for all failures of a
# connection; their messages tell them apart. The first entry that matches wins.
_BY_MESSAGE: dict[str, type[errors.ClientError]] = {
    "unknown model": errors.ModelNotFound,
    "requested model '": errors.ModelNotFound,
    "has no available versions": errors.ModelNotFound,
    "is not at ready state": errors.ModelNotFound,
    "is restricted, expecting header": errors.RequestRejected,
    "handshake failed": errors.TlsFailed,
    "failed to connect": errors.ServerUnavailable,
    # A Python-based model's process has died; behind a front door, another replica may answer.
    "is not healthy": errors.ServerUnavailable,
    "Socket closed": errors.ConnectionLost,
    "Connection reset": errors.ConnectionLost,
    "Broken pipe": errors.ConnectionLost,
    "GOAWAY": errors.ConnectionLost,
}
# What tritonclient says of a body that is not Triton's JSON; the body follows.
_UNDECODABLE = "an exception occurred in the client while decoding the response"
_BROKEN = (ConnectionError, ssl.SSLError, http.client.HTTPException, RuntimeError)


def transport_errors() -> tuple[type[BaseException], ...]:
    """All exceptions of tritonclient that mean a failed request."""
    import aiohttp

    # ValueError comes from what is no JSON, RuntimeError from a client that is closed during the request.
    return (InferenceServerException, OSError, aiohttp.ClientError, http.client.HTTPException, ValueError, RuntimeError)


@contextmanager
def reading(connection: Connection, what: str) -> Iterator[None]:
    """Turn what goes wrong while an answer is read into ServerFailed: then it is not Triton's."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _not_triton(f"{what} at {_where(connection)}", f"{type(error).__name__}: {error}") from error


def _not_triton(place: str, reason: str) -> errors.ServerFailed:
    return errors.ServerFailed(
        f"{place}: the answer is not Triton's ({reason}); check --url and --protocol (Triton's ports: HTTP 8000, gRPC "
        "8001, metrics 8002)"
    )


def _where(connection: Connection) -> str:
    return f"{connection.protocol}://{connection.url}"


def translate(error: BaseException, connection: Connection, what: str) -> errors.ClientError:
    """Choose our error for one of tritonclient's; the server's own message is part of it."""
    place = f"{what} at {_where(connection)}"
    if isinstance(error, InferenceServerException):
        return _answered(error, connection, place)
    return _unanswered(error, connection, place)


def _answered(error: InferenceServerException, connection: Connection, place: str) -> errors.ClientError:
    """The error for what a server said, or gRPC in its place."""
    status, reason = str(error.status() or ""), without_trace(str(error.message() or error))
    words = reason.partition(_UNDECODABLE)[2].partition("response: ")[2]
    # Triton's metrics port answers 405 to what it does not know.
    if status == "405" or (words and _BY_STATUS.get(status) is not errors.ServerUnavailable):
        return _not_triton(place, f"HTTP {status}: {words or reason:.80}")
    of_its_class = errors.RequestRejected if status.startswith("4") else errors.ServerFailed
    by_message = next((kind for words, kind in _BY_MESSAGE.items() if words in reason), None)
    kind = by_message or _BY_STATUS.get(status, of_its_class)
    if kind is errors.ServerUnavailable and "failed to connect" in reason:
        return _nobody_answers(connection, reason)
    if kind is errors.ConnectionLost:
        return _connection_lost(connection, place, reason)
    # A model of Python may say NOT_FOUND of something else.
    if by_message is errors.ModelNotFound:
        return kind(f"{place}: {reason}; `python -m clients.status` lists what it serves")
    may_be_proxy = kind in (errors.ServerUnavailable, errors.DeadlineExceeded)
    return kind(f"{place}: {reason}{_by_proxy(connection) if may_be_proxy else ''}")


def _unanswered(error: BaseException, connection: Connection, place: str) -> errors.ClientError:
    """The error for what went wrong on the way."""
    import aiohttp

    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, TimeoutError):
        return errors.DeadlineExceeded(f"{place}: no answer within {connection.timeout_s:g} s (--timeout)")
    if isinstance(error, ValueError) and not isinstance(error, OSError | aiohttp.ClientError):
        return _not_triton(place, reason)
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return errors.TlsFailed(f"{place}: {reason}; check --ca-file, --cert-file and the server's own certificate")
    if getattr(error, "errno", 0) == errno.EMFILE:
        return errors.ClientError(f"{place}: {reason}; raise the limit of open files (ulimit -n)")
    never_open = isinstance(error, ConnectionRefusedError | aiohttp.ClientConnectorError)
    if never_open or not isinstance(error, (*_BROKEN, aiohttp.ClientError)):
        return _nobody_answers(connection, reason)
    # The connection was open: the request may have been sent.
    return _connection_lost(connection, place, reason)


def _nobody_answers(connection: Connection, reason: str) -> errors.ServerUnavailable:
    return errors.ServerUnavailable(
        f"no server answers at {_where(connection)} ({reason}); start one with `python -m tools.serve`, "
        f"or check --url, --protocol and the TLS options{_by_proxy(connection)}"
    )


def _connection_lost(connection: Connection, place: str, reason: str) -> errors.ConnectionLost:
    return errors.ConnectionLost(
        f"{place}: the connection broke before the answer came ({reason}); see the server's log, "
        f"and check --protocol and the TLS options{_by_proxy(connection)}"
    )


def _by_proxy(connection: Connection) -> str:
    proxy = grpc_proxy(connection.url) if connection.protocol == "grpc" else None
    return f"; gRPC asks the proxy of {proxy}, unset it or add the host to $no_proxy" if proxy else ""


def without_trace(reason: str) -> str:
    """A model's own words, without the trace that TorchScript or Triton's Python backend wraps them in."""
    head, _, trace = reason.partition("The following operation failed in the TorchScript interpreter.")
    error = re.search(r"^(?:builtins\.)?([\w.]*(?:Error|Exception): .*)", trace, re.MULTILINE | re.DOTALL)
    words = f"{head} {error[1]}" if error else reason.partition("\n\nAt:\n")[0]
    return " ".join(words.split())


def may_retry(error: errors.ClientError, repeatable: bool) -> bool:
    """Retry only if the server is unavailable: an invalid request stays invalid, and a deadline is the caller's own.

    An inference is not `repeatable`: if the connection broke, that very request may have stopped the server, and behind
    a load balancer it would stop the next one.
    """
    return repeatable if isinstance(error, errors.ConnectionLost) else isinstance(error, errors.ServerUnavailable)


def delay_or_raise(
    error: BaseException, connection: Connection, what: str, delays: Iterator[float], repeatable: bool
) -> float:
    """The seconds to wait before the next attempt; raises our error if there is to be none.

    A server that says when it wants to be asked again (Retry-After) is not asked before. A deadline that ends sooner is
    not worth the waiting.
    """
    problem = translate(error, connection, what)
    delay = next(delays, None) if may_retry(problem, repeatable) else None
    wished = _retry_after(error)
    if delay is None or wished >= connection.timeout_s:
        raise problem from error
    return wished + delay


def _retry_after(error: BaseException) -> float:
    """The seconds of the Retry-After header of a refusal; 0 if there is none, or if it is a date.

    tritonclient keeps the headers to itself: over gRPC, they are in the error that it has caught; over HTTP, in the
    function that raises its own.
    """
    metadata = getattr(error.__context__, "trailing_metadata", None)
    headers = metadata() if metadata else ()
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == "_raise_if_error":
            headers = dict(frame.f_locals["response"].headers).items()
    text = next((value for name, value in headers or () if name.lower() == "retry-after"), "")
    return float(text) if text.isascii() and text.isdigit() else 0.0


def retry_delays(retries: int) -> Iterator[float]:
    """Yield the seconds to wait before each further attempt: exponential backoff with full jitter.

    The jitter keeps many clients from returning all at once; see Marc Brooker, "Exponential Backoff And Jitter" (AWS
    Architecture Blog, 2015).
    """
    for attempt in range(retries):
        yield random.uniform(0, min(LONGEST_DELAY_S, FIRST_DELAY_S * 2**attempt))
