"""Stand-in for NVIDIA's libtorch backend: Triton loads this file where it finds no libtriton_pytorch.so.

It gives the same config the same meaning (naming rules, parameters, instance kind and device), refuses the same
mistakes in the same kind of words, and runs each dynamic batch in one forward call. Only `tools.serve` uses it;
in NVIDIA's container the C++ backend serves the same repository.

The cost per request counts here: tensors are joined in numpy, enter and leave torch once per batch, and are
handed back as slices; everything that does not depend on the request is worked out in `initialize`. Outputs that
nobody asked for are not handed back.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import triton_python_backend_utils as pb_utils

if TYPE_CHECKING:
    import numpy.typing as npt

    from tools.backends.pytorch import binding

    Array = npt.NDArray[Any]
else:
    import binding  # Triton puts this folder on sys.path

TRUE, FALSE = ("true", "on", "1"), ("false", "off", "0")


class TritonPythonModel:
    """One instance of one TorchScript model, in a process of its own (Triton's name for this class is fixed)."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load `<version>/model.pt` onto the instance's device and work out how requests map to `forward`."""
        # Imported here and not above, so that Triton's other uses of this file start without torch.
        import torch

        self.config: dict[str, Any] = json.loads(args["model_config"])
        self.name = self.config["name"]
        self.device = choose_device(args)
        set_threads_and_jit(self.config)
        # Entered once for the process: a guard per batch would cost as much as a small forward. It is kept, because
        # inference mode ends when the object that began it is collected.
        self.no_gradients = torch.inference_mode() if flag(self.config, "INFERENCE_MODE", True) else torch.no_grad()
        self.no_gradients.__enter__()
        self.from_numpy = torch.from_numpy
        self.model = load(args, self.config, self.device)
        arguments = [
            binding.Argument(argument.name, argument.type.kind())
            for argument in self.model.forward.schema.arguments
            if argument.type.kind() != "ClassType"
        ]
        self.inputs = binding.bind_inputs(self.config, arguments)
        self.outputs = [
            (output.name, output.index, output.dtype and getattr(torch, output.dtype))
            for output in binding.bind_outputs(self.config)
        ]
        # A model with one output is asked for nothing else, so its requests need not be looked at.
        self.optional = len(self.outputs) > 1
        self.clean_cache = self.device.type == "cuda" and flag(self.config, "ENABLE_CACHE_CLEANING", False)
        self.batched = self.config.get("max_batch_size", 0) > 0
        self.gather = self.gather_one if self.takes_one_tensor() else self.gather_many

    def takes_one_tensor(self) -> bool:
        """Whether the short way through `gather_one` holds: one batched tensor, no strings, no dict."""
        return self.batched and len(self.inputs.names) == 1 and not (self.inputs.strings or self.inputs.as_dict)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer a batch of requests with one forward call; a failure answers all of them with its reason."""
        try:
            sizes, tensors = self.gather(requests)
            asked = self.asked(requests) if self.optional else None
            results = self.results(self.model(*tensors), asked)
        except pb_utils.TritonModelException as error:
            return respond_all(requests, str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception as error:  # Whatever a user's model raises is an answer to the caller, not our end.
            return respond_all(requests, f"PyTorch execute failure: {error}", pb_utils.TritonError.INTERNAL)
        finally:
            if self.clean_cache:
                import torch

                torch.cuda.empty_cache()
        try:
            return self.split(sizes, results, asked)
        except pb_utils.TritonModelException as error:
            return respond_all(requests, str(error), pb_utils.TritonError.INVALID_ARG)

    def gather_one(self, requests: list[Any]) -> tuple[list[int], list[Any]]:
        """Batch sizes, and the one tensor of all requests joined along the batch dimension."""
        arrays = [request.inputs()[0].as_numpy() for request in requests]
        joined = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        return [len(array) for array in arrays], [self.to_device(joined)]

    def gather_many(self, requests: list[Any]) -> tuple[list[int], list[Any]]:
        """The same for any number of inputs, strings and dictionaries."""
        rows = [{tensor.name(): tensor for tensor in request.inputs()} for request in requests]
        columns = [[row[name].as_numpy() for row in rows] for name in self.inputs.names]
        values = [
            [text.decode() for array in column for text in array.reshape(-1)]
            if name in self.inputs.strings
            else self.to_device(column[0] if len(column) == 1 else np.concatenate(column))
            for name, column in zip(self.inputs.names, columns, strict=True)
        ]
        sizes = [len(array) if self.batched else 1 for array in columns[0]]
        return sizes, [dict(zip(self.inputs.names, values, strict=True))] if self.inputs.as_dict else values

    def to_device(self, array: Array) -> Any:
        """The array as a tensor where the model computes; no copy on a CPU."""
        tensor = self.from_numpy(array)
        return tensor if self.device.type == "cpu" else tensor.to(self.device)

    def asked(self, requests: list[Any]) -> list[set[str]]:
        """The names of the outputs that each request wants."""
        return [set(request.requested_output_names()) for request in requests]

    def results(self, returned: Any, asked: list[set[str]] | None) -> list[tuple[str, Array]]:
        """The whole batch of each output that some request wants as an array, checked against the config."""
        values = returned if isinstance(returned, tuple) else (returned,)
        wanted = None if asked is None else set().union(*asked)
        results = []
        for name, index, dtype in self.outputs:
            if wanted is not None and name not in wanted:
                continue
            if index >= len(values):
                raise pb_utils.TritonModelException(
                    f"The output {name} in the model configuration refers to an output index which doesn't "
                    f"exist. This model has {len(values)} outputs"
                )
            results.append((name, to_array(name, values[index], dtype)))
        return results

    def split(self, sizes: list[int], results: list[tuple[str, Array]], asked: list[set[str]] | None) -> list[Any]:
        """One response per request, its rows of what it asked for cut out of the batch."""
        total = sum(sizes)
        for name, array in results:
            if self.batched and len(array) != total:
                raise pb_utils.TritonModelException(
                    f"output '{name}' has {len(array)} rows for a batch of {total}; "
                    "the model must keep the batch dimension, or set max_batch_size to 0"
                )
        if len(sizes) == 1:
            return [pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in results])]
        responses, start = [], 0
        for number, size in enumerate(sizes):
            end = start + size
            own = results if asked is None else [result for result in results if result[0] in asked[number]]
            responses.append(
                pb_utils.InferenceResponse([pb_utils.Tensor(name, array[start:end]) for name, array in own])
            )
            start = end
        return responses


def to_array(name: str, value: Any, dtype: Any) -> Array:
    """One output of `forward` as a numpy array, or the reason why it is none."""
    if dtype is None and isinstance(value, list) and all(isinstance(text, str) for text in value):
        return np.array([text.encode() for text in value], dtype=np.object_)
    found = getattr(value, "dtype", None)
    if dtype is None or found is None:
        raise pb_utils.TritonModelException(
            f"output '{name}' must be of type Tensor, List[str] or Tuple containing one of these two types, "
            f"as configured; received {type(value).__name__}"
        )
    if found != dtype:
        raise pb_utils.TritonModelException(
            f"configuration expects datatype {dtype} for output '{name}', model provides {found}"
        )
    if not value.ndim:
        raise pb_utils.TritonModelException(f"output '{name}' is a scalar; a tensor needs a dimension")
    # Forced: to the CPU, and out of autograd where a model turned gradients on; faster than asking for each.
    array: Array = value.numpy(force=True)
    return array


def respond_all(requests: list[Any], message: str, code: int) -> list[Any]:
    """The same error for every request of a batch."""
    # Each gets an error object of its own: the server frees it with the response, and dies if several share one.
    return [pb_utils.InferenceResponse([], pb_utils.TritonError(message, code)) for _ in requests]


def choose_device(args: dict[str, str]) -> Any:
    """The instance's device; never another one than the config asks for."""
    import torch

    if args["model_instance_kind"] != "GPU":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise pb_utils.TritonModelException(
            f"model '{args['model_name']}' has kind KIND_GPU but torch {torch.__version__} sees no CUDA device; "
            "install torch's CUDA build, or serve with --model-config-name=cpu"
        )
    return torch.device("cuda", int(args["model_instance_device_id"]))


def load(args: dict[str, str], config: dict[str, Any], device: Any) -> Any:
    """Read the TorchScript file of this version."""
    import torch

    filename = config.get("default_model_filename") or "model.pt"
    path = os.path.join(args["model_repository"], args["model_version"], filename)
    if not os.path.exists(path):
        raise pb_utils.TritonModelException(f"unable to find '{path}' for model instance '{config['name']}'")
    any_device = args["model_instance_kind"] == "MODEL"
    try:
        return torch.jit.load(path, map_location=None if any_device else device)
    except (RuntimeError, ValueError, OSError) as error:
        raise pb_utils.TritonModelException(f"failed to load model '{config['name']}' ({path}): {error}") from error


def set_threads_and_jit(config: dict[str, Any]) -> None:
    """Apply the parameters that hold for the whole process: thread counts and the JIT's switches."""
    import torch

    if threads := count(config, "INTRA_OP_THREAD_COUNT"):
        torch.set_num_threads(threads)
    if threads := count(config, "INTER_OP_THREAD_COUNT"):
        torch.set_num_interop_threads(threads)
    if flag(config, "DISABLE_OPTIMIZED_EXECUTION", False):
        torch._C._set_graph_executor_optimize(False)
    if flag(config, "DISABLE_CUDNN", False):
        torch.backends.cudnn.enabled = False
    switches = {
        "ENABLE_JIT_PROFILING": torch._C._jit_set_profiling_mode,
        "ENABLE_JIT_EXECUTOR": torch._C._jit_set_profiling_executor,
        "ENABLE_TENSOR_FUSER": torch._C._jit_set_texpr_fuser_enabled,
    }
    for key, switch in switches.items():
        if key in config.get("parameters", {}):
            switch(flag(config, key, True))


def flag(config: dict[str, Any], key: str, default: bool) -> bool:
    """A boolean parameter of the config."""
    text = text_parameter(config, key)
    if text is None:
        return default
    if text.lower() not in TRUE + FALSE:
        raise pb_utils.TritonModelException(f"parameter {key} is '{text}'; expected one of {', '.join(TRUE + FALSE)}")
    return text.lower() in TRUE


def count(config: dict[str, Any], key: str) -> int | None:
    """A positive whole number among the parameters."""
    text = text_parameter(config, key)
    if text is None:
        return None
    if not text.isdigit() or int(text) < 1:
        raise pb_utils.TritonModelException(f"parameter {key} is '{text}'; expected a whole number of at least 1")
    return int(text)


def text_parameter(config: dict[str, Any], key: str) -> str | None:
    """A parameter's text as it stands in config.pbtxt."""
    entry = config.get("parameters", {}).get(key)
    return None if entry is None else str(entry["string_value"])
