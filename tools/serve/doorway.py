"""The front door before the replicas of a service: who stands behind it, and what it hears of them."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tools.front.door import Front
from tools.front.options import Backend, FrontOptions
from tools.ports import ANY, choose_ports
from tools.repository import model_names, read_config
from tools.serve.caretaker import Caretaker
from tools.serve.launch import LOCALHOST
from tools.serve.router_process import RouterProcess, web_application
from tools.serve.server_error import ServerError
from tools.serve.supervisor import Supervisor

_PATIENCE_S = 5  # of the caretaker with HAProxy


@contextmanager
def doors(
    options: FrontOptions | None,
    supervisor: Supervisor,
    host: str,
    web_port: int | None,
    web_names: Sequence[str],
    on_log: Callable[[str], None],
) -> Iterator[tuple[str, RouterProcess | None]]:
    """Keep the front door and the page with OpenAI's API open within the block, as far as they are wanted.

    With a door, callers reach them there, and the API asks any replica by way of the door; else the first one.
    Yields a line that says where the door is, and the page's process.

    Raises:
        FrontError: HAProxy is not installed or does not start.
        RouterError: the page does not start.
        ServerError: a protocol is off.
    """
    inner = f"{LOCALHOST}:{choose_ports(LOCALHOST, [0])[0]}" if options and web_port is not None else ""
    first = supervisor.replicas[0]
    metrics = [replica.endpoints.metrics for replica in supervisor.replicas]
    asked = (first.endpoints.http, inner or first.endpoints.grpc, metrics, first.options.repository, web_names)
    with web_application(host, web_port, *asked) as page:
        if options and page:
            listens_at, _, port = page.addresses["listen"].rpartition(":")
            options = replace(options, openai=f"{ANY.get(listens_at, listens_at)}:{port}", inner=inner)
        with _front_door(options, supervisor, on_log) as place:
            yield place, page


@contextmanager
def _front_door(options: FrontOptions | None, supervisor: Supervisor, on_log: Callable[[str], None]) -> Iterator[str]:
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
        offered = "HTTP, gRPC, OpenAI's API and a page to try the models" if options.openai else "HTTP and gRPC"
        yield f"Front door at {front.address} ({offered}); operators at {front.operator}\n"
