"""The error of everything that starts the embedded server."""

from clients.errors import ToolError


class ServerError(ToolError):
    """The embedded server cannot start, or has died; the message holds the end of its log."""
