"""The page, in a real browser, on real servers."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from tritonclient.http import InferenceServerClient, InferInput
from tritonclient.utils import np_to_triton_dtype

from tests.browser import NEEDS_CHROMIUM, Scheme, card, chromium, draw, look, share, visit
from tests.e2e.language import leaving
from tests.e2e.serving import add_sleeper
from tests.haproxy import NEEDS_HAPROXY
from tests.waiting import soon
from tools.front.door import Front
from tools.front.keys import add_key
from tools.front.options import Backend, FrontOptions
from tools.ports import choose_ports
from tools.repository import ROOT, model_names, read_config
from tools.serve.router_process import web_application
from tools.serve.tritonserver import Options, Server

pytestmark = NEEDS_CHROMIUM
SAMPLES, SHOTS = ROOT / "build" / "samples", ROOT / "build" / "screenshots"
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
LOOKS: tuple[tuple[int, Scheme], ...] = ((1440, "dark"), (360, "light"))

# Lets requests to a path wait until `release` is called; `asking` is done when there is one.
HELD = """(path) => {
    const real = window.fetch;
    let come, go;
    window.asking = new Promise((resolve) => (come = resolve));
    const released = new Promise((resolve) => (go = resolve));
    window.release = () => (go(), window.fetch = real, null);
    window.fetch = async (at, options) => (at.endsWith(path) && (come(), await released), real(at, options));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


def page_of(server: Server) -> Any:
    """The page's process in front of a server."""
    places = (server.http, server.grpc, [server.metrics], server.options.repository)
    return web_application("127.0.0.1", 0, *places)


@pytest.fixture(scope="module")
def web(server: Server) -> Iterator[Any]:
    """The page's process in front of the session's server."""
    with page_of(server) as running:
        yield running


@pytest.fixture(scope="module")
def language_web(language_server: Server) -> Iterator[Any]:
    with page_of(language_server) as running:
        yield running


@pytest.fixture
def url(web: Any) -> str:
    """Where the page is, in front of the session's server."""
    return str(web.page_url)


@pytest.fixture
def language_url(language_web: Any) -> str:
    return str(language_web.page_url)


def comes(locator: Any, text: str = "", value: str = "") -> None:
    """Wait for a text, or for the value of a field; both are patterns."""
    from playwright.sync_api import expect

    expected = expect(locator)
    if text:
        expected.to_have_text(re.compile(text), timeout=30_000)
    else:
        expected.to_have_value(re.compile(value), timeout=30_000)


def test_a_drawing_is_read_by_classifier_and_pipelines_while_the_pen_moves(browser: Any, url: str) -> None:
    with visit(browser, f"{url}#/models/mnist_mlp") as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/infer") else None)
        began = time.monotonic()
        draw(page, steps=48)
        for model in ("mnist_mlp", "digit_image", "digit_image_bytes"):
            # Of half a ring it is less sure.
            assert soon(lambda model=model: share(page, model, "0") > 0.4)
            text = card(page, model).locator(".timing").inner_text()
            assert "queue" in text and re.search(r"\d (µs|ms)", text), text
        assert len(card(page, "mnist_mlp").locator(".bars li").all()) == 10
        comes(card(page, "mnist_mlp").locator(".batch"), text=r"^mean batch \d")
        # However many events of the mouse there are, each of three models is asked every 60 ms at most.
        assert 3 <= len(asked) <= 3 * (1 + (time.monotonic() - began) / 0.06)
        wiped(page)


def wiped(page: Any) -> None:
    """Wipe the sheet while the server is asked: no answer is shown, and the next drawing gets its own."""
    empty = card(page, "mnist_mlp").get_by_text("The answer appears here")
    for path in ("/infer", "/web/metrics"):
        page.get_by_role("button", name="Wipe").click()
        page.evaluate(HELD, path)
        draw(page)
        page.evaluate("window.asking")
        page.get_by_role("button", name="Wipe").click()
        with page.expect_response("**/web/metrics"):
            page.evaluate("window.release()")
        assert empty.is_visible() and not card(page, "mnist_mlp").locator(".bars, .timing").all()
    draw(page)
    share(page, "mnist_mlp", "0")


def test_who_has_only_keys_draws_chooses_and_sends_with_them(browser: Any, url: str) -> None:
    with visit(browser, f"{url}#/models/mnist_mlp") as page:
        sheet = page.get_by_role("img", name="Sheet to draw on")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the model"
        for _ in range(40):
            page.keyboard.press("Tab")
            if sheet.evaluate("element => element === document.activeElement"):
                break
        ways = {"Up": 18, "Right": 9, "Down": 18, "Left": 9}
        for key in (
            *["ArrowDown"] * 9,
            *["ArrowLeft"] * 5,
            "Space",
            *(f"Arrow{way}" for way in ways for _ in range(ways[way])),
        ):
            page.keyboard.press(key)
        share(page, "mnist_mlp", "0")
        page.keyboard.press("Delete")
        page.get_by_role("link", name="classification", exact=True).focus()
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Send", exact=True).focus()
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Answer").wait_for()


def test_a_picture_is_classified_side_by_side_however_it_comes(browser: Any, url: str) -> None:
    with visit(browser, f"{url}#/models/cifar10_cnn") as page:
        for way, label in {"choose": "frog", "drop": "ship", "paste": "horse"}.items():
            give(page, sorted((SAMPLES / "cifar10_image" / label).iterdir())[0], way)
            shares = [share(page, model, label) for model in ("cifar10_cnn", "cifar10_image", "cifar10_image_bytes")]
            # A file is decoded and scaled by the pipelines, and by the browser for the classifier.
            assert max(shares) - min(shares) < 0.1


def give(page: Any, file: Path, way: str) -> None:
    """Choose, drop or paste a file; the latter two as a browser tells a page of it."""
    program = """([bytes, way]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], "given.png", { type: "image/png" }));
        const drop = () => new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
        if (way === "drop") document.querySelector(".drop").dispatchEvent(drop());
        else document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
    }"""
    if way == "choose":
        page.get_by_label("Choose a picture").set_input_files(file)
    else:
        page.evaluate(program, [list(file.read_bytes()), way])


def test_what_is_no_picture_is_said_and_an_example_is_at_hand(browser: Any, url: str) -> None:
    with visit(browser, f"{url}#/models/cifar10_image_bytes") as page:
        page.get_by_label("Choose a picture").set_input_files(ROOT / "README.md")
        page.get_by_text("README.md is no picture").wait_for()
        page.get_by_role("button", name="Example").click()
        assert share(page, "cifar10_image_bytes", ".*") > 0


def test_any_model_has_a_form_with_its_example_and_errors_in_the_servers_words(
    browser: Any, url: str, server: Server
) -> None:
    with visit(browser, f"{url}#/live", refused=True) as page:
        values, send = page.get_by_role("textbox", name="Values"), page.get_by_role("button", name="Send", exact=True)
        page.evaluate(HELD, "/classification/1")
        page.get_by_role("navigation").get_by_role("link", name="classification", exact=True).click()
        # Before the example is there.
        send.click()
        page.evaluate("window.release()")
        comes(values, value=r"(\S+ ){9}\S+")
        page.get_by_role("heading", name="PROBABILITIES__0").wait_for()
        assert len(page.locator(".bars li").all()) == 10
        values.fill("1 2 three")
        send.click()
        page.get_by_text("the shape [1, 10] has 10 values, got 3").wait_for()
        values.fill("0")
        page.get_by_label("Shape").fill("1, 9")
        send.click()
        asked = {"inputs": [{"name": "INPUT__0", "shape": [1, 9], "datatype": "FP32", "data": [0] * 9}]}
        refusal = requests.post(f"http://{server.http}/v2/models/classification/infer", json=asked, timeout=10).json()
        page.get_by_text(refusal["error"]).wait_for()


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not on PATH")
def test_the_same_call_is_shown_as_code_that_runs(browser: Any, url: str, tmp_path: Path) -> None:
    with visit(browser, f"{url}#/models/classification") as page:
        comes(page.locator(".code"), text=r"0\.\d+")
        codes = {}
        for name in ("curl", "Python", "tritonclient"):
            page.get_by_role("button", name=name, exact=True).click()
            codes[name] = page.locator(".code").inner_text()
        page.get_by_role("button", name="Copy", exact=True).click()
        page.get_by_role("button", name="Copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == codes["tritonclient"]
    lines = {name: [sys.executable, "-c", code] for name, code in codes.items()} | {"curl": ["sh", "-c", codes["curl"]]}
    running = {
        name: subprocess.Popen(line, cwd=ROOT, text=True, stdout=subprocess.PIPE) for name, line in lines.items()
    }
    printed = {name: (process.communicate(timeout=60)[0], process.returncode) for name, process in running.items()}
    assert [name for name, (text, code) in printed.items() if code or not text] == []
    assert "PROBABILITIES__0" in printed["curl"][0] and "PROBABILITIES__0" in printed["Python"][0]


def test_every_datatype_is_read_and_written_as_tritonclient_does(browser: Any, url: str) -> None:
    halves = np.arange(0, 2**16, 15, dtype=np.uint16).view(np.float16)
    halves = halves[~np.isnan(halves)]
    whole = {name: np.array([0, 1, np.iinfo(name).max, np.iinfo(name).min], name) for name in INTEGERS}
    arrays = whole | {"fp16": halves, "fp32": np.array([1e-40, -3.5, np.inf], "f4"), "fp64": np.array([np.pi, -0.0])}
    arrays |= {"bool": np.array([True, False]), "bytes": np.array([b"", "grün".encode(), b"\xff\x00"], object)}
    tensors = [InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype)) for name, array in arrays.items()]
    for tensor, array in zip(tensors, arrays.values(), strict=True):
        tensor.set_data_from_numpy(array)
    body, length = InferenceServerClient.generate_request_body(tensors)
    program = """async ([bytes, length]) => {
        const link = document.querySelector("link[href$='/protocol.js']").href;
        const { decode, encode } = await import(link);
        const tensors = decode(new Uint8Array(bytes).buffer, length);
        const sent = encode(tensors, []);
        const half = Array.from(tensors.find(({ name }) => name === "fp16").data, String);
        return [[...new Uint8Array(await sent.body.arrayBuffer()).slice(sent.length)], half];
    }"""
    with visit(browser, url) as page:
        written, read = page.evaluate(program, [list(body), length])
    assert bytes(written) == bytes(body[length:])
    assert [float(text.replace("Infinity", "inf")) for text in read] == halves.astype(float).tolist()


def test_classes_are_asked_for_where_the_server_tells_them_and_may_share_a_label(browser: Any, url: str) -> None:
    program = """async () => {
        const link = document.querySelector("link[href$='/answers.js']").href;
        const { bars, wanted } = await import(link);
        const { specOf } = await import(link.replace("answers", "models"));
        const asked = (data_type, dims) => {
            const outputs = [specOf({ name: "y", data_type, dims, label_filename: "labels.txt" })];
            return wanted({ outputs }).map(({ parameters }) => parameters.classification ?? 0);
        };
        const types = ["STRING", "FP16", "BOOL", "FP32", "INT64"].map((type) => asked(`TYPE_${type}`, ["10"]));
        const shown = bars();
        const shares = [["crane", 0.2], ["crane", 0.5], ["frog", 0.3]];
        shown.update(shares.map(([label, share], index) => ({ label, index, share })));
        return [types, asked("TYPE_FP32", ["2", "5"]), asked("TYPE_FP32", ["-1"]), shown.element.innerText];
    }"""
    with visit(browser, url) as page:
        types, matrix, open_dims, bars = page.evaluate(program)
    assert types == [[], [0], [], [10], [10]] and matrix == [10] and open_dims == [2**30]
    assert re.findall("crane|frog|[0-9.]+", bars) == ["crane", "20.0", "crane", "50.0", "frog", "30.0"]


def test_a_chat_streams_and_says_how_fast(browser: Any, language_url: str) -> None:
    with visit(browser, language_url) as page:
        page.get_by_text("Settings").click()
        page.get_by_label("Most tokens").fill("12")
        page.get_by_label("Your text").fill("Why is the sea salty?")
        page.keyboard.press("Enter")
        figures = page.locator(".message.assistant .figures")
        figures.get_by_text("12 tokens").wait_for()
        figures.get_by_text("reached the most tokens").wait_for()
        assert re.search(r"first token .*(ms|s).*tokens/s", figures.inner_text(), re.DOTALL)
        assert page.locator(".said").inner_text()
        assert '"content": "Why is the sea salty?"'.replace(": ", ":") in page.locator(".code").inner_text()
        cleared(page)


def cleared(page: Any) -> None:
    """Begin another conversation while an answer comes: nothing of it is in the next one."""
    for tokens, text in (("8000", "One"), ("1", "Two")):
        page.get_by_role("button", name="Clear").click()
        page.get_by_label("Most tokens").fill(tokens)
        page.get_by_label("Your text").fill(text)
        page.get_by_role("button", name="Send", exact=True).wait_for()
        with page.expect_request("**/v1/chat/completions") as asked:
            page.keyboard.press("Enter")
        comes(page.locator(".said"), text=r"\S")
    assert [message["content"] for message in asked.value.post_data_json["messages"]] == ["Two"]


def test_stop_ends_the_generation_on_the_server(browser: Any, language_url: str, language_server: Server) -> None:
    with visit(browser, language_url) as page:
        page.get_by_text("Settings").click()
        for mode in ("Chat", "Complete"):
            stopped(page, mode, language_server)


def stopped(page: Any, mode: str, server: Server) -> None:
    """Ask for a text without end, and stop it; the server works for nobody then."""
    page.get_by_role("button", name=mode, exact=True).click()
    page.get_by_label("Most tokens").fill("8000")
    # The likeliest token is never the end.
    page.get_by_label("Temperature").fill("0")
    page.get_by_label("Your text").fill("One, two, three,")
    with leaving(server):
        page.get_by_role("button", name="Send", exact=True).click()
        comes(page.locator(".said"), text=r"\S[\s\S]{20}")
        page.get_by_role("button", name="Stop", exact=True).click()
        page.get_by_text("stopped", exact=True).wait_for()


def test_figures_are_live_and_a_bounded_load_shows_in_them(browser: Any, url: str) -> None:
    with visit(browser, f"{url}#/live") as page:
        page.get_by_label("Model", exact=True).select_option("cifar10_cnn")
        page.get_by_label("Seconds").fill("2")
        page.get_by_role("button", name="Send load").click()
        row = page.get_by_role("row", name=re.compile("^cifar10_cnn"))
        busy_row = row.and_(page.locator(".busy"))
        # At once: a moment later it may not be busy any more.
        cells = busy_row.evaluate("row => [...row.cells].map((cell) => cell.innerText)")
        _, rate, p50, p99, batch, queue, compute, *_ = cells
        assert float(rate.replace(",", "")) > 1 and float(batch) >= 1
        assert all(re.search(r"\d (µs|ms)", each) for each in (queue, compute)), (p50, p99)
        page.get_by_text(re.compile("^Done: .* answers, .* requests/s, p50 .* p99 [^:]*$")).wait_for()


def test_a_server_that_goes_and_returns_is_survived_without_a_reload(browser: Any, tmp_path: Path) -> None:
    models, ports = add_sleeper(tmp_path / "models"), choose_ports("127.0.0.1", [0, 0, 0])
    # An idle connection keeps a server from ending for so long.
    flags = ["--exit-timeout-secs=1"]
    options = Options(models, http_port=ports[0], grpc_port=ports[1], metrics_port=ports[2], flags=flags)
    with ExitStack() as stack:
        server = stack.enter_context(ExitStack())
        running = stack.enter_context(page_of(server.enter_context(Server(options))))
        page = stack.enter_context(visit(browser, running.page_url, refused=True))
        values, send = page.get_by_role("textbox", name="Values"), page.get_by_role("button", name="Send", exact=True)
        values.fill("0.01")
        send.click()
        page.get_by_role("heading", name="SECONDS").wait_for()
        page.evaluate("window.kept = true")
        server.close()
        send.click()
        page.get_by_text("This page tries again until it does").wait_for()
        page.get_by_text("gets no answer from").wait_for()
        server.enter_context(Server(options))
        page.locator("#banner").wait_for(state="hidden")
        send.click()
        page.get_by_role("heading", name="SECONDS").wait_for()
        assert values.input_value() == "0.01" and page.evaluate("window.kept")


@contextmanager
def door(server: Server, web: Any, folder: Path) -> Iterator[tuple[str, str]]:
    """A front door that demands keys, before a server and its page: where it is, and a key."""
    key, repository = add_key(folder / "keys", "alice", "caller", 0), server.options.repository
    models = [read_config(name, repository=repository) for name in model_names(repository)]
    (folder / "door").mkdir()
    places = {"front": "127.0.0.1:0", "operator": "127.0.0.1:0", "openai": web.addresses["listen"]}
    options, backends = (
        FrontOptions(**places, api_keys=folder / "keys"),
        [Backend("replica0", server.http, server.grpc)],
    )
    with Front(folder / "door", options, models, backends) as front:
        yield f"http://{front.address}", key


@NEEDS_HAPROXY
def test_behind_the_front_door_the_page_wants_a_key_and_opens_nothing_else(
    browser: Any, server: Server, web: Any, tmp_path: Path
) -> None:
    with door(server, web, tmp_path) as (url, key):
        for closed in ("/web/metrics", "/web/examples/mnist_mlp/1", "/v2/models/stats"):
            assert requests.get(url + closed, timeout=10).status_code == 401
        mine = {"Authorization": f"Bearer {key}"}
        assert requests.get(f"{url}/metrics", headers=mine, timeout=10).status_code == 403
        assert requests.post(f"{url}/web/metrics", headers=mine, timeout=10).status_code == 403
        # The door's callers may know it by any name, under which other sites' pages stay out.
        for origin, status in (("http://triton.example", 200), ("http://evil.example", 403)):
            named = mine | {"Host": "triton.example", "Origin": origin}
            assert requests.get(f"{url}/web/metrics", headers=named, timeout=10).status_code == status
        with visit(browser, url, refused=True) as page:
            for given in ("wrong", key):
                page.get_by_label("API key", exact=True).fill(given)
                page.get_by_role("button", name="Use it").click()
            page.get_by_role("navigation").get_by_role("link", name="mnist_mlp", exact=True).click()
            # The first model that is shown has a sheet, too.
            page.get_by_role("heading", level=1, name="mnist_mlp").wait_for()
            draw(page)
            share(page, "mnist_mlp", "0")
            comes(card(page, "mnist_mlp").locator(".batch"), text=r"^mean batch \d")
            assert key not in page.evaluate("document.documentElement.outerHTML + JSON.stringify(localStorage)")


@NEEDS_HAPROXY
def test_stop_ends_the_generation_behind_the_front_door(
    browser: Any, language_server: Server, language_web: Any, tmp_path: Path
) -> None:
    with door(language_server, language_web, tmp_path) as (url, key), visit(browser, url, refused=True) as page:
        page.get_by_label("API key", exact=True).fill(key)
        page.get_by_role("button", name="Use it").click()
        page.get_by_text("Settings").click()
        stopped(page, "Complete", language_server)


def test_it_can_be_used_by_all_and_fits_its_window(browser: Any, url: str, language_url: str) -> None:
    with visit(browser, url) as page:
        for place in ("models/mnist_mlp", "models/cifar10_cnn", "models/classification", "live"):
            page.goto(f"{url}#/{place}")
            page.get_by_role("heading", level=1, name=place.rpartition("/")[2]).wait_for()
            if place == "models/mnist_mlp":
                draw(page)
                share(page, "mnist_mlp", "0")
            elif place == "models/cifar10_cnn":
                page.get_by_role("button", name="Example").click()
                share(page, "cifar10_cnn", ".*")
            usable(page, place.rpartition("/")[2])
    with visit(browser, language_url) as page:
        page.get_by_label("Your text").fill("Why is the sea salty?")
        page.keyboard.press("Enter")
        page.get_by_text("tokens/s").wait_for()
        page.get_by_role("button", name="Send", exact=True).wait_for()
        usable(page, "language")


def usable(page: Any, place: str) -> None:
    """Nothing is wider than the window, and axe-core finds no fault: contrast, names, roles, order; take pictures."""
    from axe_playwright_python.sync_playwright import Axe

    SHOTS.mkdir(parents=True, exist_ok=True)
    for width, scheme in LOOKS:
        look(page, width, scheme)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), place
        found = Axe().run(page).response["violations"]
        assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found] == [], place
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=SHOTS / f"{place}-{width}-{scheme}.png", full_page=True)


def test_files_are_small_kept_for_ever_and_carry_their_headers(url: str) -> None:
    page = requests.get(url, timeout=10)
    policy = page.headers["Content-Security-Policy"]
    assert (
        "default-src 'none'" in policy
        and "unsafe" not in policy
        and page.headers["X-Content-Type-Options"] == "nosniff"
    )
    assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=", page.text)
    again = requests.get(url, headers={"If-None-Match": page.headers["ETag"]}, timeout=10)
    assert (again.status_code, again.content) == (304, b"")
    names = set(re.findall(r"/web/[^\"]+", page.text))
    files = [requests.get(url.rstrip("/") + name, timeout=10) for name in names]
    assert {file.status_code for file in files} == {200} and len(files) > 10
    assert all("immutable" in file.headers["Cache-Control"] for file in files)
    kinds = {file.headers["Content-Type"].partition(";")[0] for file in files}
    assert kinds == {"text/javascript", "text/css", "image/svg+xml"}
    assert sum(int(file.headers["Content-Length"]) for file in files) < 50_000
    assert requests.get(f"{url}web/0000000000000000/app.js", timeout=10).status_code == 404
    assert requests.get(f"{url}web/examples/..%2fmodel_repository%2fmnist_mlp/1", timeout=10).status_code == 204
