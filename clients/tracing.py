"""A span for each request, in programs that have set up OpenTelemetry; others pay nothing.

The span's identity travels with the request as `traceparent`, a header or gRPC's metadata. What lies behind, such as
Triton (`tools.serve --otlp`), adds its own spans to the same trace.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from clients.connection import Connection


@contextmanager
def span(what: str, connection: Connection) -> Iterator[dict[str, str]]:
    """Open a span around a request; yields the headers that tell the server of it, none without a tracer."""
    if not _is_set_up():
        yield {}
        return
    from opentelemetry import trace

    attributes = {"server.address": connection.url, "network.protocol.name": connection.protocol}
    tracer = trace.get_tracer("clients")
    with tracer.start_as_current_span(what, kind=trace.SpanKind.CLIENT, attributes=attributes):
        yield current()


def current() -> dict[str, str]:
    """The headers that tell a server of the span that is open here; none without a tracer."""
    headers: dict[str, str] = {}
    if _is_set_up():
        from opentelemetry import propagate

        propagate.inject(headers)
    return headers


def _is_set_up() -> bool:
    # A program that has not imported it has set up no tracer.
    return "opentelemetry.trace" in sys.modules
