"""What can go wrong with the front door."""

from clients.errors import ToolError


class FrontError(ToolError):
    """The door cannot be opened, or a key or certificate is not usable; the message says why and what to do."""
