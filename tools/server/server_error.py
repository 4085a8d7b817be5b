"""What all that puts the embedded server together raises."""


class ServerError(Exception):
    """The embedded server cannot start, or died; the message holds the end of its log."""
