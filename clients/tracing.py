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
    # A program that has not imported it has set up no tracer.
    if "opentelemetry.trace" not in sys.modules:
        yield {}
        return
    from opentelemetry import propagate, trace

    headers: dict[str, str] = {}
    attributes = {"server.address": connection.url, "network.protocol.name": connection.protocol}
    tracer = trace.get_tracer("clients")
    with tracer.start_as_current_span(what, kind=trace.SpanKind.CLIENT, attributes=attributes):
        propagate.inject(headers)
        yield headers
