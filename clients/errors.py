"""What can go wrong on a request's way, one class per station.

ClientError
├── InvalidInput        refused here, before anything was sent
├── ServerUnavailable   nothing answered, or the server says that it cannot serve now
│   └── ConnectionLost  the connection broke with the request under way; the server may have run it
├── TlsFailed           the two sides do not trust each other's certificates, or one of them speaks no TLS
├── DeadlineExceeded    no answer within the timeout
├── ModelNotFound       the server has no such model or version, or it is not ready
├── RequestRejected     the server says that the request is wrong
└── ServerFailed        the model or the server failed on a request that was well formed
"""


class ClientError(Exception):
    """Any failure of a request; the message names what was asked of whom, and the remedy where there is one."""


class InvalidInput(ClientError):
    """The input does not fit the model's contract; nothing was sent."""


class ServerUnavailable(ClientError):
    """No server answers at the address, or it answers that it is not available."""


class ConnectionLost(ServerUnavailable):
    """The connection broke with the request under way, so that nobody here knows whether the server has run it."""


class TlsFailed(ClientError):
    """No encrypted connection came about; trying again would not help."""


class DeadlineExceeded(ClientError):
    """The answer did not come within the timeout."""


class ModelNotFound(ClientError):
    """The server has no such model or version, or it is not ready."""


class RequestRejected(ClientError):
    """The server refused the request as wrong (HTTP 4xx, gRPC INVALID_ARGUMENT)."""


class ServerFailed(ClientError):
    """The server failed on a well-formed request (HTTP 5xx, gRPC INTERNAL)."""
