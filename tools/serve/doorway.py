"""The front door before the replicas of a service: who stands behind it, and what it hears of them."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.front.door import Front
from tools.front.options import Backend, FrontOptions
from tools.repository import model_names, read_config
from tools.serve.caretaker import Caretaker
from tools.serve.server_error import ServerError
from tools.serve.supervisor import Supervisor

_PATIENCE_S = 5  # of the caretaker with HAProxy


@contextmanager
def front_door(options: FrontOptions | None, supervisor: Supervisor, on_log: Callable[[str], None]) -> Iterator[str]:
    """Keep the door open within the block, if one is wanted; yields a line that says where it is.

    Raises:
        FrontError: HAProxy is not installed or does not start.
        ServerError: a protocol is off.
    """
    if options is None:
        yield ""
        return
    backends = [
        Backend(each.name, each.endpoints.http, each.endpoints.grpc, each.agent.getsockname()[1])
        for each in supervisor.replicas
    ]
    if not all(each.http and each.grpc for each in backends):
        raise ServerError(
            "--front serves HTTP and gRPC, so that neither may be off; drop --allow-http and --allow-grpc"
        )
    repository = supervisor.replicas[0].options.repository
    models = [read_config(model, repository=repository) for model in model_names(repository)]
    with (
        tempfile.TemporaryDirectory(prefix="front-", ignore_cleanup_errors=True) as name,
        Caretaker(folder := Path(name), folder.name, _PATIENCE_S) as caretaker,
        Front(folder, options, models, backends, on_log, caretaker.mark) as front,
    ):
        supervisor.attach(front.set_state, front.in_flight)
        yield f"Front door at {front.address} (HTTP and gRPC); operators at {front.operator}\n"
