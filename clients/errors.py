"""The root of every error that a command reports, and what can go wrong with a request.

ToolError                   whatever a command reports in one line; `tools` and `loadtest` add their own
└── ClientError             a request failed
    ├── InvalidInput        it was refused before anything was sent
    ├── ServerUnavailable   nothing answered, or the server cannot serve now
    │   └── ConnectionLost  the connection broke during the request; the server may have run it
    ├── TlsFailed           the TLS handshake failed
    ├── DeadlineExceeded    no response within the timeout
    ├── ModelNotFound       the server has no such model or version, or it is not ready
    ├── RequestRejected     the server refused the request as invalid
    └── ServerFailed        the model or the server failed on a valid request
"""


class ToolError(Exception):
    """What a command reports in one line; the message names the thing and the remedy."""

    exit_code = 2  # The command could not be run; 1 where its answer is no.


class ClientError(ToolError):
    """Any failure of a request; the message names the request and the server, and the remedy if there is one."""


class InvalidInput(ClientError):
    """The input does not fit the model's contract, or an option is not usable; nothing was sent."""


class ServerUnavailable(ClientError):
    """No server answers at the address, or it answers that it is not available."""


class ConnectionLost(ServerUnavailable):
    """The connection broke during the request, so that nobody here knows whether the server has run it."""


class TlsFailed(ClientError):
    """The TLS handshake failed; a retry would not help."""


class DeadlineExceeded(ClientError):
    """No response arrived within the timeout."""


class ModelNotFound(ClientError):
    """The server has no such model or version, or it is not ready."""


class RequestRejected(ClientError):
    """The server refused the request as invalid (HTTP 4xx, gRPC INVALID_ARGUMENT)."""


class ServerFailed(ClientError):
    """The server failed on a valid request (HTTP 5xx, gRPC INTERNAL)."""
