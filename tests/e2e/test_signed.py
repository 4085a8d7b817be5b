"""tools.serve --public-key: signed versions are served, and anything else keeps the server from starting."""

import py_compile
from importlib.util import cache_from_source
from pathlib import Path
from py_compile import PycInvalidationMode

import pytest

from clients.client import Client
from clients.connection import Connection
from tests.conftest import Command
from tests.e2e.serving import FREE_PORTS, add_sleeper, sleep_on
from tools.repository import hold
from tools.serve.tritonserver import Options, Server
from tools.sign.signatures import SignatureError, breaches, new_key, refuse_unproven, sign
from tools.versions.candidates import beside, serving
from tools.versions.promotion import rollback


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A folder with a key pair."""
    return new_key(tmp_path / "keys")[0].parent


@pytest.fixture
def sleeper(tmp_path: Path, keys: Path) -> Path:
    """A repository with one signed model, which starts in a moment."""
    repository = add_sleeper(tmp_path / "models")
    sign("sleeper", 1, keys / "private.pem", repository)
    return repository


def test_what_was_signed_is_served_and_no_cache_in_its_place(sleeper: Path, keys: Path, tmp_path: Path) -> None:
    source = sleeper / "sleeper" / "1" / "model.py"
    other = tmp_path / "other.py"
    other.write_text(source.read_text().replace('"SECONDS", seconds', '"SECONDS", seconds + 1'))
    cache = cache_from_source(source)
    py_compile.compile(str(other), cache, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)
    with Server(Options(sleeper, public_key=keys / "public.pem")) as server:
        assert sleep_on(server.grpc, 0.0) == 0.0
    # The server's Python has rewritten the cache: tools.check reports it, and the next start is not refused.
    assert [(breach.flaw, str(breach.file)) for breach in breaches("sleeper", 1, keys / "public.pem", sleeper)] == [
        ("cached", cache)
    ]
    refuse_unproven(["sleeper"], keys / "public.pem", sleeper)


def test_a_changed_config_keeps_the_server_from_starting(sleeper: Path, keys: Path, command: Command) -> None:
    with (sleeper / "sleeper" / "config.pbtxt").open("a") as stream:
        stream.write("#")
    answer = command("tools.serve", "--repository", sleeper, *FREE_PORTS, "--public-key", keys / "public.pem")
    assert answer.returncode == 1 and answer.stdout == ""
    assert answer.stderr.rstrip() == (
        f"error: sleeper version 1: {sleeper}/sleeper/config.pbtxt was changed since the version was signed; "
        "restore the signed file, or if you trust it, sign it with "
        "`python -m tools.sign sleeper --version 1 --key PRIVATE.pem`"
    )


def test_a_changed_byte_of_the_model_keeps_the_server_from_starting(sleeper: Path, keys: Path) -> None:
    path = sleeper / "sleeper" / "1" / "model.py"
    path.write_text(path.read_text().replace("float", "floaT"))
    with pytest.raises(SignatureError, match="/sleeper/1/model.py was changed since the version was signed"):
        Server(Options(sleeper, public_key=keys / "public.pem")).__enter__()


def test_an_unsigned_model_keeps_the_server_from_starting(sleeper: Path, keys: Path) -> None:
    add_sleeper(sleeper, "another")
    with pytest.raises(SignatureError, match=r"^another version 1: .*/1/model.sig does not exist: the version is not"):
        Server(Options(sleeper, public_key=keys / "public.pem")).__enter__()


def test_another_key_keeps_the_server_from_starting(sleeper: Path, tmp_path: Path) -> None:
    public = new_key(tmp_path / "others")[1]
    with pytest.raises(SignatureError, match=r"model.sig was not made with the private key of .*/others/"):
        Server(Options(sleeper, public_key=public)).__enter__()


def test_an_earlier_version_that_was_altered_is_not_rolled_back_to(sleeper: Path, keys: Path) -> None:
    (sleeper / "sleeper" / "2").mkdir()
    (sleeper / "sleeper" / "1" / "model.py").write_text("")
    with pytest.raises(SignatureError, match="^sleeper version 1: .*/1/model.py was changed"):
        rollback(None, "sleeper", sleeper, keys / "public.pem")
    assert serving("sleeper", sleeper) == 2


def test_a_candidate_that_is_not_what_was_signed_never_gets_to_the_server(sleeper: Path, keys: Path) -> None:
    public = keys / "public.pem"
    model = sleeper / "sleeper"
    (model / "2").mkdir()
    (model / "2" / "model.py").write_text((model / "1" / "model.py").read_text())
    (model / "2" / "manifest.json").write_text("{}")
    hold("sleeper", 2, sleeper)
    with Server(Options(sleeper, public_key=public)) as server, Client(Connection("http", server.http)) as client:
        with (
            pytest.raises(SignatureError, match="the version is not signed"),
            beside(client, "sleeper", 2, sleeper, public),
        ):
            pass
        assert [model["name"] for model in client.models()] == ["sleeper"]
        sign("sleeper", 2, keys / "private.pem", sleeper)
        with beside(client, "sleeper", 2, sleeper, public) as candidate:
            assert (candidate.name, candidate.before) == ("sleeper.v2", 1)
