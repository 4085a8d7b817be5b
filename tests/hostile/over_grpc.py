"""Hostile requests over gRPC: a method and the bytes of its message."""

from collections.abc import Iterator
from dataclasses import dataclass

from tritonclient.grpc import service_pb2 as pb

MODEL, SERVICE = "mnist_mlp", "/inference.GRPCInferenceService/"
HUGE = 2**63 - 1


@dataclass(frozen=True)
class Call:
    """One call: the method, its message, and the seconds that the caller waits."""

    method: str
    message: bytes
    timeout_s: float = 20.0
    metadata: tuple[tuple[str, str], ...] = ()


def infer(
    model: str = MODEL, shape: tuple[int, ...] = (1, 784), raw: bytes | None = bytes(784 * 4)
) -> pb.ModelInferRequest:
    """A good request, to be spoilt."""
    asked = pb.ModelInferRequest(model_name=model)
    asked.inputs.add(name="INPUT__0", datatype="FP32", shape=shape)
    if raw is not None:
        asked.raw_input_contents.append(raw)
    return asked


def classes(asked: pb.ModelInferRequest, output: str, count: int = 1) -> pb.ModelInferRequest:
    """The same, asking for classes."""
    asked.outputs.add(name=output).parameters["classification"].int64_param = count
    return asked


def no_classes(model: str) -> bytes:
    """Classes of an output that has none."""
    asked = pb.ModelInferRequest(model_name=model)
    asked.inputs.add(name="NUMBER", datatype="FP32", shape=[1]).contents.fp32_contents.append(1)
    return bytes(classes(asked, "OUTPUT").SerializeToString())


def _texts(raw: bytes) -> pb.ModelInferRequest:
    asked = pb.ModelInferRequest(model_name=MODEL)
    asked.inputs.add(name="INPUT__0", datatype="BYTES", shape=[1, 784])
    asked.raw_input_contents.append(raw)
    return asked


def grpc_requests() -> Iterator[tuple[str, Call]]:
    """Every call with its name."""

    def made(message: pb.ModelInferRequest, method: str = "ModelInfer", timeout_s: float = 20.0) -> Call:
        return Call(method, message.SerializeToString(), timeout_s)

    yield "classes of a STRING output", Call("ModelInfer", no_classes("texts"))
    hidden = infer().SerializeToString() + no_classes("texts")
    yield "the same behind another model's name", Call("ModelInfer", hidden)
    yield "classes of an empty output", Call("ModelInfer", no_classes("nothing"))
    yield "classes of an empty batch", made(classes(infer(shape=(0, 784), raw=b""), "OUTPUT__0"))
    for count in (0, -1, HUGE):
        yield f"{count} classes", made(classes(infer(), "OUTPUT__0", count))
    yield "shape [2^63-1, 784], raw data", made(infer(shape=(HUGE, 784)))
    yield "shape [2^62, 4], raw data", made(infer(shape=(2**62, 4), raw=b""))
    yield "shape [-1, 784]", made(infer(shape=(-1, 784)))
    yield "shape [2^63-1, 784], typed data", made(infer(shape=(HUGE, 784), raw=None))
    yield "shape of 100,000 dimensions", made(infer(shape=(1,) * 100_000))
    twice = infer()
    twice.raw_input_contents.append(b"1234")
    yield "more raw data than inputs", made(twice)
    both = infer()
    both.inputs[0].contents.fp32_contents.extend([1.0] * 784)
    yield "raw and typed data", made(both)
    yield "a BYTES element of 4 GB", made(_texts(b"\xff\xff\xff\xff"))
    yield "BYTES where FP32 is meant", made(_texts(b"\x01\x00\x00\x00a" * 784))
    yield "no inputs", made(pb.ModelInferRequest(model_name=MODEL))
    many = infer()
    for _ in range(10_000):
        many.outputs.add(name="OUTPUT__0")
    yield "10,000 outputs", made(many)
    region = infer(raw=None)
    region.inputs[0].parameters["shared_memory_region"].string_param = "x"
    yield "shared memory that nobody registered", made(region)
    named = infer()
    named.id = "a" * 1_000_000
    yield "an id of 1 MB", made(named)
    yield "a model's name of 1 MB", made(infer("m" * 1_000_000))
    prior = infer()
    prior.parameters["priority"].uint64_param = 2**64 - 1
    yield "priority 2^64-1", made(prior)
    yield "bytes that are no protobuf", Call("ModelInfer", b"\xff" * 1000)
    yield "nothing", Call("ModelInfer", b"")
    yield "128 MB", made(infer(raw=bytes(128 << 20)))
    yield "a deadline of 1 ms", made(infer(), timeout_s=0.001)
    yield "a header of 64 KB", Call("ModelInfer", infer().SerializeToString(), metadata=(("x-a", "a" * 65_000),))
    yield "a method that is none", Call("ModelDestroy", b"")


# What only operators may ask, over gRPC: method and message.
CLOSED: tuple[tuple[str, bytes], ...] = tuple(
    (name, message.SerializeToString())
    for name, message in (
        ("RepositoryIndex", pb.RepositoryIndexRequest()),
        ("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name=MODEL)),
        ("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name=MODEL)),
        ("SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest()),
        ("SystemSharedMemoryRegister", pb.SystemSharedMemoryRegisterRequest(name="x", key="/x", byte_size=1)),
        ("SystemSharedMemoryUnregister", pb.SystemSharedMemoryUnregisterRequest()),
        ("CudaSharedMemoryStatus", pb.CudaSharedMemoryStatusRequest()),
        ("CudaSharedMemoryRegister", pb.CudaSharedMemoryRegisterRequest(name="x")),
        ("CudaSharedMemoryUnregister", pb.CudaSharedMemoryUnregisterRequest()),
        ("TraceSetting", pb.TraceSettingRequest()),
        ("LogSettings", pb.LogSettingsRequest()),
        ("ModelStreamInfer", pb.ModelInferRequest(model_name=MODEL)),
    )
)
