"""What all that puts the embedded server together raises."""

from clients.errors import ToolError


class ServerError(ToolError):
    """The embedded server cannot start, or died; the message holds the end of its log."""
