"""Behaviours of a model of the Python backend, as functions of one request."""

import json

import numpy as np
import triton_python_backend_utils as pb

from . import neighbour

X = np.arange(3, dtype=np.float32)
FAMILIES = {}
METRICS = {}


class Odd:
    """Has a name and a DLPack, but no device."""

    __dlpack__ = None


def y(array):
    return pb.InferenceResponse([pb.Tensor("Y", array)])


def text(*lines):
    return pb.InferenceResponse([pb.Tensor("TEXT", np.array(lines, object))])


def error(code):
    return pb.InferenceResponse(error=pb.TritonError(f"refused: {code}", getattr(pb.TritonError, code)))


def sent(request, *responses, flags=1):
    sender = request.get_response_sender()
    for response in responses:
        sender.send(response, flags)


def given(request, name):
    return pb.get_input_tensor_by_name(request, name)


def request_of(request):
    names = sorted(request.requested_output_names())
    who = [request.request_id(), request.correlation_id(), request.flags(), request.timeout(), names]
    return text(json.dumps([who, json.loads(request.parameters() or "{}"), request.is_cancelled()], sort_keys=True))


def tensor_of(request):
    x = given(request, "X")
    return text(json.dumps([x.name(), x.shape(), x.is_cpu(), x.as_numpy().flags.writeable, str(x.as_numpy().dtype)]))


def metric(kind, *steps, **options):
    # One of each kind: to make the same metric again may end tritonserver 2.51.
    if kind not in FAMILIES:
        FAMILIES[kind] = pb.MetricFamily(f"odd_{kind.lower()}", "odd", getattr(pb.MetricFamily, kind))
    if not steps:
        return FAMILIES[kind].Metric(**options)
    if kind not in METRICS:
        METRICS[kind] = FAMILIES[kind].Metric(**options)
    made = METRICS[kind]
    for name, *arguments in steps:
        value = getattr(made, name)(*arguments)
    return text(str(value))


def bool_of(request):
    return text(str(given(request, "B").as_numpy().tolist()))


def batch_of_two(request):
    return [y(X), y(X)]


GOOD = {
    "doubled": lambda r: y(2 * given(r, "X").as_numpy()),
    "neighbour": lambda r: y(neighbour.VALUE),
    "texts": lambda r: text("grün", b"\xff", 5, None, ""),
    "request": request_of,
    "tensor": tensor_of,
    "bool": bool_of,
    "absent": lambda r: text(str(given(r, "X"))),
    "both": lambda r: pb.InferenceResponse([pb.Tensor("TEXT", np.array(["a"], object)), pb.Tensor("Y", X)]),
    "fp64": lambda r: y(X.astype(np.float64)),
    "matrix": lambda r: y(X.reshape(3, 1)),
    "scalar": lambda r: y(np.array(1, np.float32)),
    "empty": lambda r: y(X[:0]),
    "no_text": lambda r: pb.InferenceResponse([pb.Tensor("TEXT", np.array([], object))]),
    "steps": lambda r: y(X[::2]),
    "transposed": lambda r: y(np.arange(6, dtype=np.float32).reshape(2, 3).T),
    "missing": lambda r: pb.InferenceResponse([]),
    "extra": lambda r: pb.InferenceResponse([pb.Tensor("Y", X), pb.Tensor("Z", X)]),
    "own_dlpack": lambda r: y(np.array(np.from_dlpack(pb.Tensor("Z", X.copy())))),
    "to_dlpack": lambda r: y(np.array(np.from_dlpack(given(r, "X")))),
    "type": lambda r: y(X.astype(pb.triton_string_to_numpy("TYPE_FP32"))),
    "directory": lambda r: text(pb.get_model_dir()[-6:]),
    "counter": lambda r: metric("COUNTER", ("increment", 2), ("value",)),
    "gauge": lambda r: metric("GAUGE", ("set", 3), ("increment", -1), ("value",)),
    "histogram": lambda r: metric("HISTOGRAM", ("observe", 3), buckets=[1, 2]),
    "log": lambda r: (pb.Logger.log("odd", pb.Logger.WARNING), pb.Logger.log_info("odd"), y(X))[-1],
    "own_ready": lambda r: text(str(pb.is_model_ready("odd"))),
    "none_ready": lambda r: text(str(pb.is_model_ready("nobody"))),
    "sent": lambda r: sent(r, y(X)),
    "sent_open": lambda r: (sent(r, y(X), flags=0), sent(r, None))[0],
    "bytes": lambda r: pb.InferenceResponse([pb.Tensor("TEXT", np.array([b"abc", b"d"]))]),
    "code": lambda r: text(str(int(pb.TritonError("x", pb.TritonError.NOT_FOUND).code()))),
    "error_class": lambda r: text(str(issubclass(pb.TritonModelException, Exception))),
}
BAD = {
    "UNKNOWN": lambda r: error("UNKNOWN"),
    "INTERNAL": lambda r: error("INTERNAL"),
    "NOT_FOUND": lambda r: error("NOT_FOUND"),
    "INVALID_ARG": lambda r: error("INVALID_ARG"),
    "UNAVAILABLE": lambda r: error("UNAVAILABLE"),
    "UNSUPPORTED": lambda r: error("UNSUPPORTED"),
    "ALREADY_EXISTS": lambda r: error("ALREADY_EXISTS"),
    "CANCELLED": lambda r: error("CANCELLED"),
    "raises": lambda r: {}["no such key"],
    "raises_model": lambda r: raised(pb.TritonModelException("own words")),
    "exits": lambda r: raised(SystemExit(3)),
    "none_for_all": lambda r: [],
    "two_for_one": batch_of_two,
    "tuple": lambda r: (y(X),),
    "text_for_response": lambda r: ["no response"],
    "complex": lambda r: y(X.astype(np.complex64)),
    "big_endian": lambda r: y(X.astype(">f4")),
    "unicode": lambda r: pb.InferenceResponse([pb.Tensor("TEXT", np.array(["abc"]))]),
    "list": lambda r: y([1.0, 2.0]),
    "number": lambda r: y(np.float32(1)),
    "no_name": lambda r: pb.Tensor("", X),
    "keyword": lambda r: pb.Tensor(name="Y", array=X),
    "none_tensor": lambda r: pb.InferenceResponse([None]),
    "array_response": lambda r: pb.InferenceResponse([X]),
    "error_text": lambda r: pb.InferenceResponse(error="words"),
    "error_number": lambda r: pb.TritonError("words", 3),
    "error_and_tensors": lambda r: pb.InferenceResponse([pb.Tensor("Y", X)], pb.TritonError("both")),
    "parameters": lambda r: pb.InferenceResponse([pb.Tensor("Y", X)], parameters={"a": 1}),
    "sent_nothing": lambda r: sent(r, None),
    "sent_flag": lambda r: sent(r, y(X), flags=2),
    "sent_open_nothing": lambda r: sent(r, None, flags=0),
    "sent_array": lambda r: sent(r, X),
    "dlpack_list": lambda r: pb.Tensor.from_dlpack("Y", [1]),
    "dlpack_half": lambda r: pb.Tensor.from_dlpack("Y", Odd()),
    "dlpack_text": lambda r: pb.Tensor("TEXT", np.array(["a"], object)).to_dlpack(),
    "no_type": lambda r: pb.triton_string_to_numpy("TYPE_BF16"),
    "no_buckets": lambda r: metric("HISTOGRAM"),
    "buckets": lambda r: metric("GAUGE", buckets=[1.0]),
    "labels": lambda r: metric("GAUGE", labels="a"),
    "unknown_name": lambda r: pb.NoSuchName,
}


def raised(exception):
    raise exception


class TritonPythonModel:
    def initialize(self, args):
        self.args = args

    def execute(self, requests):
        (request,) = requests
        which = given(request, "WHICH").as_numpy()[0].decode()
        if which == "arguments":
            hidden = ("model_config", "model_repository")
            return [text(json.dumps({name: value for name, value in self.args.items() if name not in hidden}))]
        if which == "config":
            return [text(self.args["model_config"])]
        answer = {**GOOD, **BAD}[which](request)
        return answer if isinstance(answer, (list, tuple)) else [answer]
