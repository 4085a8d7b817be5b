"""Models that did not load as a server started: they are tried again, and older versions take the place of newer ones.

A server that runs keeps the old version by itself when a new one does not load; one that starts again must do the same.
And what was in the way, such as a full /dev/shm, may have gone.
"""

from collections.abc import Iterable

from clients.aio import AsyncClient
from clients.errors import ToolError
from tools.repository import CPU_CONFIG, as_triton_json, config_path, read_config, versions
from tools.serve.tritonserver import Server

_LOAD_S = 60.0


async def fill_gaps(server: Server, models: Iterable[str]) -> dict[str, str]:
    """Try to load models; returns what became of those that are served now.

    Not where signatures are asked for: what has been proven are the files that lay there as the server started.
    """
    connection = server.endpoints.connection(_LOAD_S)
    if connection is None or server.options.public_key:
        return {}
    async with AsyncClient(connection) as client:
        found = {model: await _load(client, server, model) for model in models}
    return {model: words for model, words in found.items() if words}


async def _load(client: AsyncClient, server: Server, model: str) -> str:
    try:
        await client.load(model)
        return "loads after all"
    except ToolError:
        return await _load_older(client, server, model)


async def _load_older(client: AsyncClient, server: Server, model: str) -> str:
    repository = server.options.repository
    name = CPU_CONFIG if not server.on_gpu and config_path(model, CPU_CONFIG, repository).is_file() else None
    for version in versions(model, repository)[-2::-1]:
        try:
            config = as_triton_json(read_config(model, name, repository))
            await client.load(model, {**config, "version_policy": {"specific": {"versions": [version]}}})
            return f"serves version {version}, because a newer one does not load"
        except ToolError:
            continue
    return ""
