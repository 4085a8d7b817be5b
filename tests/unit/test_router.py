"""`python -m clients.router` without a server behind it: its addresses, how it starts and how it ends."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from clients.client import Client
from clients.connection import Connection
from clients.errors import ServerUnavailable
from clients.web.application import OPEN
from tools.repository import ROOT

ANY_PORT = "127.0.0.1:0"


def start(*options: str) -> "subprocess.Popen[str]":
    nobody = ("--upstream", "127.0.0.1:1", "--grpc", "127.0.0.1:1", "--listen-grpc", ANY_PORT)
    line = [sys.executable, "-m", "clients.router", *nobody, *options]
    return subprocess.Popen(line, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture
def router() -> Iterator["subprocess.Popen[str]"]:
    with start("--listen", ANY_PORT, "--control", ANY_PORT) as process:
        yield process
        process.kill()


@pytest.fixture
def addresses(router: "subprocess.Popen[str]") -> dict[str, str]:
    assert router.stdout
    printed: dict[str, str] = json.loads(router.stdout.readline())
    assert printed.keys() == {"listen", "listen_grpc", "control"}
    return printed


def test_a_caller_gets_a_bad_gateway_if_no_server_answers(addresses: dict[str, str]) -> None:
    answer = requests.get(f"http://{addresses['listen']}/v2", timeout=10)
    assert answer.status_code == 502
    assert "the router gets no answer from 127.0.0.1:1" in answer.json()["error"]


def test_a_caller_over_grpc_hears_it_too(addresses: dict[str, str]) -> None:
    with (
        Client(Connection("grpc", addresses["listen_grpc"], retries=0)) as client,
        pytest.raises(ServerUnavailable, match="127.0.0.1:1"),
    ):
        client.server()


def test_trials_begin_are_listed_and_end_at_the_control_address(addresses: dict[str, str]) -> None:
    trials = f"http://{addresses['control']}/trials"
    begun = requests.put(f"{trials}/m", json={"candidate": "m.v2", "mode": "shadow", "share": 0.5}, timeout=10)
    assert begun.status_code == 200
    terms = {"model": "m", "candidate": "m.v2", "mode": "shadow", "share": 0.5}
    evidence = {"pairs": 0, "protocols": {}, "rescued": 0, "under_way": 0, "decision": None, "reason": ""}
    document = begun.json()
    assert {key: value for key, value in document.items() if key != "tests"} == terms | evidence
    assert document["tests"].keys() == {"errors", "disagreement", "slowness"}
    assert requests.get(trials, timeout=10).json() == {"m": document}
    assert requests.delete(f"{trials}/m", timeout=10).json() == document
    assert requests.delete(f"{trials}/m", timeout=10).status_code == 404


@pytest.mark.parametrize("body", [{"candidate": "m.v2", "mode": "mirror"}, {"candidate": "m.v2", "what": 1}, {}])
def test_impossible_terms_are_a_bad_request(body: dict[str, Any], addresses: dict[str, str]) -> None:
    answer = requests.put(f"http://{addresses['control']}/trials/m", json=body, timeout=10)
    assert answer.status_code == 400 and answer.json()["error"]
    assert requests.get(f"http://{addresses['control']}/trials", timeout=10).json() == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_how_a_router_is_meant_to_end(
    number: signal.Signals, router: "subprocess.Popen[str]", addresses: dict[str, str]
) -> None:
    router.send_signal(number)
    assert router.communicate(timeout=20) == ("", "stopped\n")
    assert router.returncode == 0


@pytest.mark.parametrize("name", ["listen", "listen_grpc", "control"])
def test_an_address_in_use_is_exit_code_two_with_the_remedy(name: str, addresses: dict[str, str]) -> None:
    options = {"listen": ANY_PORT, "listen_grpc": ANY_PORT, "control": ANY_PORT, name: addresses[name]}
    words = [word for option, place in options.items() for word in (f"--{option.replace('_', '-')}", place)]
    with start(*words) as process:
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (2, "")
    assert f"cannot listen at {addresses[name]}" in err and f"--{name.replace('_', '-')}" in err


def test_an_address_without_a_port_is_refused() -> None:
    with start("--listen", "localhost") as process:
        _, err = process.communicate(timeout=20)
    assert process.returncode == 2 and "expected HOST:PORT, got 'localhost'" in err


def test_the_page_opens_no_admin_api_and_a_server_that_is_gone_is_told_in_each_apis_form() -> None:
    with start("--page", "--grpc", "127.0.0.1:1", "--listen", ANY_PORT, "--name", "Lab.example") as process:
        assert process.stdout
        addresses = json.loads(process.stdout.readline())
        assert addresses.keys() == {"listen"}
        url, body = f"http://{addresses['listen']}", {"model": "m", "prompt": "Hi"}
        assert requests.get(f"{url}/v2", timeout=10).status_code == 502
        for path in ("repository/models/m/load", "repository/models/m/unload", "systemsharedmemory/status", "logging"):
            assert requests.post(f"{url}/v2/{path}", json={}, timeout=10).status_code == 403
        refused, welcome = asked_by_browsers(url)
        assert set(refused) == {403} and set(welcome) <= {200, 404, 502}, (refused, welcome)
        answer = requests.post(f"{url}/v1/completions", json=body, timeout=10)
        process.kill()
    assert answer.status_code == 503
    error = answer.json()["error"]
    assert error["type"] == "server_error" and "no server answers at grpc://127.0.0.1:1" in error["message"]


def asked_by_browsers(url: str) -> tuple[list[int], list[int]]:
    """Statuses of what a page of another site sends, and of what our own page, its visitors and programs send."""
    own = url.removeprefix("http://")
    foreign = (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": f"http://{own}"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        # Its name has led here since a moment ago.
        {"Host": "evil.example"},
        {"Host": "evil.example:8080", "Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example:8080"},
    )
    places = ("GET", ""), ("GET", "web/metrics"), ("GET", "v2"), ("GET", "v1/nothing"), ("POST", "v1/chat/completions")
    refused = [
        requests.request(how, f"{url}/{path}", headers=each, timeout=10).status_code
        for each in foreign
        for how, path in places
    ]
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    friends = (
        ({"Sec-Fetch-Site": "same-origin", "Origin": f"http://{own}"}, "v1/nothing"),
        ({"Origin": f"http://{own}"}, "v2"),
        (link, ""),
        *(
            ({"Host": host}, "")
            for host in ("localhost:1", "10.0.0.7:8080", "[::1]:8080", "lab.example", "a.localhost")
        ),
    )
    return refused, [requests.get(f"{url}/{path}", headers=each, timeout=10).status_code for each, path in friends]


def test_a_page_opens_what_the_door_does_and_the_list_of_models() -> None:
    door = (ROOT / "deploy" / "haproxy" / "haproxy.cfg.j2").read_text()
    acls = {"GET": "question", "POST": "inference"}
    models = ["m", "m/versions/1", "m/versions/x", "a%2fb", "m/n"]
    ends = ("", "/ready", "/config", "/stats", "/infer", "/generate", "/generate_stream", "/load", "/trace/setting")
    paths = [f"/v2/models/{model}{end}" for model in models for end in ends]
    paths += ["/v2", "/v2/repository/index", "/v2/logging", "/v2/models/stats", "/v2/systemsharedmemory/status"]
    for method, acl in acls.items():
        (pattern,) = re.findall(rf"acl {acl} path_reg (\S+)", door)
        ours = {path for path in paths if OPEN[method].fullmatch(path)} - {"/v2/repository/index"}
        assert ours == {path for path in paths if re.search(pattern, path)}, method


def test_what_make_serve_opens_takes_no_port_at_which_the_router_listens_or_a_replica() -> None:
    makefile, router = ((ROOT / name).read_text() for name in ("Makefile", "clients/router/__main__.py"))
    (page,) = map(int, re.findall(r"tools\.serve --web-port (\d+)", makefile))
    replicas = {8000 + 10 * number + port for number in range(8) for port in range(4)}
    assert page not in replicas | set(map(int, re.findall(r'default="127\.0\.0\.1:(\d+)"', router)))
    # The documentation and `make demo` send people there.
    for file in ("README.md", "docs/web.md", "tools/demo.py"):
        assert re.search(rf"make serve.*http://127\.0\.0\.1:{page}/", (ROOT / file).read_text()), file
