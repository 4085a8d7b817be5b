"""Hostile requests over HTTP, as bytes on the wire.

The served repository is that of `tests.hostile.targets`: a classifier, and two models whose outputs have no classes.
"""

import gzip
import json
from collections.abc import Iterator

MODEL = "mnist_mlp"
INFER = f"/v2/models/{MODEL}/infer"
HUGE = 2**63 - 1
_DATA = [0.5] * 784


def request(body: bytes = b"", path: str = INFER, method: str = "POST", head: str = "", length: bool = True) -> bytes:
    """A request; `head` is further header lines."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close"]
    lines += [f"Content-Length: {len(body)}"] * length + [head] * bool(head)
    return "\r\n".join([*lines, "", ""]).encode() + body


def tensor(shape: object = (1, 784), data: object = _DATA, **more: object) -> dict[str, object]:
    """The JSON of an input."""
    return {"name": "INPUT__0", "shape": shape, "datatype": "FP32", "data": data, **more}


def infer(*inputs: object, path: str = INFER, **more: object) -> bytes:
    """An inference in JSON."""
    return request(json.dumps({"inputs": list(inputs), **more}).encode(), path)


def classes(output: str, count: object = 1, shape: object = (1, 784), data: object = _DATA) -> bytes:
    """An inference that asks for classes."""
    return infer(tensor(shape, data), outputs=[{"name": output, "parameters": {"classification": count}}])


def binary(head: object, content: bytes, length: object = None) -> bytes:
    """An inference whose tensor follows its JSON."""
    text = json.dumps(head).encode()
    return request(
        text + content, head=f"Inference-Header-Content-Length: {length if length is not None else len(text)}"
    )


def no_classes(model: str) -> bytes:
    """Classes of an output that has none."""
    wanted = [{"name": "OUTPUT", "parameters": {"classification": 1}}]
    body = {"inputs": [{"name": "NUMBER", "shape": [1], "datatype": "FP32", "data": [1]}], "outputs": wanted}
    return request(json.dumps(body).encode(), f"/v2/models/{model}/infer")


def _nested(depth: int, opener: bytes = b"[", closer: bytes = b"]") -> bytes:
    start = b'{"inputs":[{"name":"INPUT__0","shape":[1,784],"datatype":"FP32","data":'
    return request(start + opener * depth + b"0" + closer * depth + b"}]}")


def _chunked(chunks: bytes) -> bytes:
    return request(chunks, head="Transfer-Encoding: chunked", length=False)


def _raw_shape(shape: str) -> bytes:
    return request(b'{"inputs":[{"name":"INPUT__0","shape":%b,"datatype":"FP32","data":[1]}]}' % shape.encode())


def http_requests() -> Iterator[tuple[str, bytes]]:
    """Every request with its name; each is made when it is its turn."""
    good = infer(tensor())
    body = good.partition(b"\r\n\r\n")[2]
    yield "shape [2^63-1, 784] with JSON data", infer(tensor([HUGE, 784], [1]))
    yield "shape [2^62, 4] with JSON data", infer(tensor([2**62, 4], [1]))
    yield "shape [-1, 784]", infer(tensor([-1, 784], [1]))
    yield "shape [1e30, 784]", _raw_shape("[1e30,784]")
    yield "shape of 200,000 dimensions", infer(tensor([1] * 200_000, [1]))
    yield "shape [100000000, 784], one value", infer(tensor([100_000_000, 784], [1]))
    yield (
        "shape given twice, the second absurd",
        request(body.replace(b'"datatype"', b'"shape":[%d,784],"datatype"' % HUGE)),
    )
    yield "shape under an escaped name", request(body.replace(b'"shape": [1, 784]', b'"sh\\u0061pe":[%d,784]' % HUGE))
    yield "shape that is an object", infer(tensor({"a": 1}))
    yield "shape [] with data", infer(tensor([]))
    yield "data nested 50,000 deep", _nested(50_000)
    yield "data nested 1,000,000 deep", _nested(1_000_000)
    yield "objects nested 100,000 deep", _nested(100_000, b'{"a":', b"}")
    yield "brackets that close within texts", _nested(40_000, b'["]",', b"]")
    yield "a million chunks of one byte", _chunked(b"1\r\n \r\n" * 1_000_000 + b"0\r\n\r\n")
    yield "a chunk of 2^63-1 bytes", _chunked(b"7fffffffffffffff\r\nx")
    yield "a chunk without a size", _chunked(b"zz\r\nx\r\n0\r\n\r\n")
    yield "Content-Length -1", request(body, head="Content-Length: -1", length=False)
    yield "Content-Length 2^64", request(body, head=f"Content-Length: {2**64}", length=False)
    yield "two Content-Lengths", request(body, head="Content-Length: 5")
    yield (
        "Content-Length and chunks (smuggling)",
        request(
            b"0\r\n\r\nPOST /v2/repository/models/texts/unload HTTP/1.1\r\nHost: x\r\n\r\n",
            head="Transfer-Encoding: chunked",
        ),
    )
    yield "a header of 1 MB", request(body, head="X-A: " + "a" * 1_000_000)
    yield "5,000 headers", request(body, head="\r\n".join(f"X-{number}: 1" for number in range(5000)))
    yield "a path of 1 MB", request(body, path="/v2/models/" + "a" * 1_000_000 + "/infer")
    yield "a gzip bomb of 256 MB", request(gzip.compress(bytes(256 << 20), 9), head="Content-Encoding: gzip")
    yield "broken deflate", request(b"\xff" * 100, head="Content-Encoding: deflate")
    yield "Inference-Header-Content-Length -1", binary({}, b"", -1)
    yield "Inference-Header-Content-Length beyond the body", binary({}, b"", 10_000)
    yield "Inference-Header-Content-Length 2^64", binary({}, b"", 2**64)
    yield "Inference-Header-Content-Length no number", binary({}, b"", "x")
    sized = {"name": "INPUT__0", "shape": [1, 784], "datatype": "FP32"}
    for size in (-1, HUGE, 4):
        yield (
            f"binary_data_size {size}",
            binary({"inputs": [sized | {"parameters": {"binary_data_size": size}}]}, b"abcd"),
        )
    absurd = sized | {"shape": [HUGE, HUGE], "parameters": {"binary_data_size": 4}}
    yield "binary data of an absurd shape", binary({"inputs": [absurd]}, b"abcd")
    text = {"name": "INPUT__0", "shape": [1, 784], "datatype": "BYTES", "parameters": {"binary_data_size": 4}}
    hidden = json.dumps({"inputs": [sized | {"shape": [HUGE, 784], "data": [1]}]}).replace('"data"', '"d\\u0061ta"')
    length = f"Inference-Header-Content-Length: {len(hidden)}"
    yield "an absurd shape in a head, its data under an escaped name", request(hidden.encode(), head=length)
    yield "a BYTES element of 4 GB", binary({"inputs": [text]}, b"\xff\xff\xff\xff")
    yield "classes of a STRING output", no_classes("texts")
    yield "classes of an empty output", no_classes("nothing")
    yield "classes of an empty batch", classes("OUTPUT__0", shape=[0, 784], data=[])
    for count in (0, -1, HUGE, 1e300):
        yield f"{count} classes", classes("OUTPUT__0", count)
    yield "a datatype that is none", infer(tensor(datatype="FP99"))
    yield "an input of no name", infer({"shape": [1, 784]})
    yield "the same input 10,000 times", infer(*[tensor(data=[])] * 10_000)
    yield "10,000 outputs", infer(tensor(), outputs=[{"name": "OUTPUT__0"}] * 10_000)
    yield "shared memory that nobody registered", infer(tensor(parameters={"shared_memory_region": "x"}))
    yield "an id of 1 MB", infer(tensor(), id="a" * 1_000_000)
    yield "a parameter of 2^64", infer(tensor(), parameters={"priority": 2**64})
    yield "a sequence", infer(tensor(), parameters={"sequence_id": 1, "sequence_start": True})
    yield "NaN, Infinity", _raw_shape("[NaN,Infinity]")
    yield "bytes that are no UTF-8", request(b"\xff\xfe" * 1000)
    yield "zero bytes", request(bytes(10_000))
    yield "no body", request()
    yield "JSON of one bracket", request(b"[")
    yield "another method", request(body, method="DELETE")
    yield "no HTTP at all", b"\x16\x03\x01\x02\x00\x01\x00" + bytes(500)
    yield "HTTP/0.9", b"GET /v2/health/ready\r\n\r\n"


# What only operators may ask, over HTTP: method, path, body.
CLOSED: tuple[tuple[str, str, str], ...] = (
    ("POST", "/v2/repository/index", "{}"),
    ("POST", f"/v2/repository/models/{MODEL}/load", "{}"),
    ("POST", f"/v2/repository/models/{MODEL}/unload", "{}"),
    ("POST", f"/v2//repository/models/{MODEL}/unload", "{}"),
    ("POST", f"/v2/repository%2Fmodels/{MODEL}/unload", "{}"),
    ("POST", f"/v2/models/../repository/models/{MODEL}/unload", "{}"),
    ("GET", "/v2/systemsharedmemory/status", ""),
    ("POST", "/v2/systemsharedmemory/region/x/register", '{"key":"/x","offset":0,"byte_size":1}'),
    ("POST", "/v2/systemsharedmemory/unregister", ""),
    ("GET", "/v2/cudasharedmemory/status", ""),
    ("POST", "/v2/cudasharedmemory/unregister", ""),
    ("GET", "/v2/trace/setting", ""),
    ("POST", "/v2/trace/setting", '{"trace_file":"/tmp/x"}'),
    ("POST", f"/v2/models/{MODEL}/trace/setting", '{"trace_file":"/tmp/x"}'),
    ("GET", "/v2/logging", ""),
    ("POST", "/v2/logging", '{"log_file":"/tmp/x"}'),
    ("GET", "/metrics", ""),
    ("POST", "/v2/debug/whatever", ""),
)
