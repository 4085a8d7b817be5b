"""A stand-in for NVIDIA's libtorch backend: Triton loads this file where it finds no libtriton_pytorch.so.

It gives a config the same meaning (tensor names, parameters, instance kind and device), refuses the same mistakes with
similar messages, and runs each dynamic batch as one forward call. Only `tools.serve` uses it; NVIDIA's container serves
the same repository with the C++ backend.

The time per request matters here: tensors are concatenated in numpy, enter and leave torch once per batch, and are
returned as slices. `initialize` does everything that does not depend on a request, and outputs that nobody requested
are not returned.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import triton_python_backend_utils as pb_utils

if TYPE_CHECKING:
    import numpy.typing as npt

    from tools.backends.pytorch import binding, parameters

    Array = npt.NDArray[Any]
else:  # Triton puts this folder on sys.path.
    import binding
    import parameters


class TritonPythonModel:
    """One instance of one TorchScript model, in a process of its own; Triton prescribes the name of the class."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load `<version>/model.pt` onto the instance's device and bind its arguments and results to the config."""
        # Imported here and not above, so that Triton's other uses of this file start without torch.
        import torch

        self.config: dict[str, Any] = json.loads(args["model_config"])
        self.device = _choose_device(args)
        parameters.apply_to_process(self.config)
        # Entered once for the process: a guard per batch would cost as much as a small forward. It is stored, because
        # inference mode ends when the object that began it is collected.
        inference = parameters.flag(self.config, "INFERENCE_MODE", True)
        self.no_gradients = torch.inference_mode() if inference else torch.no_grad()
        self.no_gradients.__enter__()
        self.from_numpy = torch.from_numpy
        self.model = _load(args, self.config, self.device)
        self._bind()
        self.clean_cache = self.device.type == "cuda" and parameters.flag(self.config, "ENABLE_CACHE_CLEANING", False)

    def _bind(self) -> None:
        """Work out how requests map to `forward`, and which code path is the fastest for them."""
        import torch

        self.inputs = binding.bind_inputs(self.config, binding.arguments_of(self.model.forward))
        self.outputs = [
            (output.name, output.index, output.dtype and getattr(torch, output.dtype))
            for output in binding.bind_outputs(self.config)
        ]
        # Requests to a model with one output cannot ask for a part of them.
        self.selective = len(self.outputs) > 1
        self.batched = self.config.get("max_batch_size", 0) > 0
        takes_one_tensor = len(self.inputs.names) == 1 and not (self.inputs.strings or self.inputs.as_dict)
        self.gather = self._gather_one if self.batched and takes_one_tensor else self._gather_many

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer a batch of requests with one forward call; if it fails, all of them get the reason."""
        try:
            sizes, tensors = self.gather(requests)
            # What each request wants; None if that is everything.
            wanted = [set(request.requested_output_names()) for request in requests] if self.selective else None
            arrays = self._to_arrays(self.model(*tensors), wanted)
            return self._split(sizes, arrays, wanted)
        except pb_utils.TritonModelException as error:
            return _respond_all(requests, str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception as error:  # Whatever a model raises is an answer to the client, not the end of this process.
            return _respond_all(requests, f"PyTorch execute failure: {error}", pb_utils.TritonError.INTERNAL)
        finally:
            if self.clean_cache:
                import torch

                torch.cuda.empty_cache()

    def _gather_one(self, requests: list[Any]) -> tuple[list[int], list[Any]]:
        """Batch sizes, and the only tensor of all requests concatenated along the batch dimension."""
        arrays = [request.inputs()[0].as_numpy() for request in requests]
        joined = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        return [len(array) for array in arrays], [self._to_device(joined)]

    def _gather_many(self, requests: list[Any]) -> tuple[list[int], list[Any]]:
        """The same for any number of inputs, strings and dictionaries."""
        rows = [{tensor.name(): tensor for tensor in request.inputs()} for request in requests]
        columns = [[row[name].as_numpy() for row in rows] for name in self.inputs.names]
        values = [
            [text.decode() for array in column for text in array.reshape(-1)]
            if name in self.inputs.strings
            else self._to_device(column[0] if len(column) == 1 else np.concatenate(column))
            for name, column in zip(self.inputs.names, columns, strict=True)
        ]
        sizes = [len(array) if self.batched else 1 for array in columns[0]]
        return sizes, [dict(zip(self.inputs.names, values, strict=True))] if self.inputs.as_dict else values

    def _to_device(self, array: Array) -> Any:
        """The array as a tensor on the model's device; no copy on a CPU."""
        tensor = self.from_numpy(array)
        return tensor if self.device.type == "cpu" else tensor.to(self.device)

    def _to_arrays(self, returned: Any, wanted: list[set[str]] | None) -> list[tuple[str, Array]]:
        """The outputs of the whole batch that some request wants, checked against the config."""
        values = returned if isinstance(returned, tuple) else (returned,)
        names = None if wanted is None else set().union(*wanted)
        arrays = []
        for name, index, dtype in self.outputs:
            if names is not None and name not in names:
                continue
            if index >= len(values):
                raise pb_utils.TritonModelException(
                    f"The output {name} in the model configuration refers to an output index which doesn't "
                    f"exist. This model has {len(values)} outputs"
                )
            arrays.append((name, _to_array(name, values[index], dtype)))
        return arrays

    def _split(self, sizes: list[int], arrays: list[tuple[str, Array]], wanted: list[set[str]] | None) -> list[Any]:
        """One response per request: its rows of the outputs that it wants."""
        for name, array in arrays:
            if self.batched and len(array) != sum(sizes):
                raise pb_utils.TritonModelException(
                    f"output '{name}' has {len(array)} rows for a batch of {sum(sizes)}; "
                    "the model must keep the batch dimension, or set max_batch_size to 0"
                )
        if len(sizes) == 1:
            return [_respond(arrays)]
        responses, start = [], 0
        for number, size in enumerate(sizes):
            rows = slice(start, start + size)
            own = arrays if wanted is None else [output for output in arrays if output[0] in wanted[number]]
            responses.append(_respond([(name, array[rows]) for name, array in own]))
            start += size
        return responses


def _respond(arrays: list[tuple[str, Array]]) -> Any:
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in arrays])


def _respond_all(requests: list[Any], message: str, code: int) -> list[Any]:
    # Each gets an error object of its own: the server frees it with the response, and dies if several share one.
    return [pb_utils.InferenceResponse([], pb_utils.TritonError(message, code)) for _ in requests]


def _to_array(name: str, value: Any, dtype: Any) -> Array:
    """One output of `forward` as a numpy array; raise TritonModelException if it is not what the config says."""
    if dtype is None and isinstance(value, list) and all(isinstance(text, str) for text in value):
        return np.array([text.encode() for text in value], dtype=np.object_)
    actual = getattr(value, "dtype", None)
    if dtype is None or actual is None:
        raise pb_utils.TritonModelException(
            f"output '{name}' must be of type Tensor, List[str] or Tuple containing one of these two types, "
            f"as configured; received {type(value).__name__}"
        )
    if actual != dtype:
        raise pb_utils.TritonModelException(
            f"configuration expects datatype {dtype} for output '{name}', model provides {actual}"
        )
    if not value.ndim:
        raise pb_utils.TritonModelException(f"output '{name}' is a scalar; a tensor needs a dimension")
    # Forced: to the CPU, and out of autograd where a model turned gradients on; faster than asking for each.
    array: Array = value.numpy(force=True)
    return array


def _choose_device(args: dict[str, str]) -> Any:
    """The instance's device; never another one than the config requests."""
    import torch

    if args["model_instance_kind"] != "GPU":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise pb_utils.TritonModelException(
            f"model '{args['model_name']}' has kind KIND_GPU but torch {torch.__version__} sees no CUDA device; "
            "install torch's CUDA build, or serve with --model-config-name=cpu"
        )
    return torch.device("cuda", int(args["model_instance_device_id"]))


def _load(args: dict[str, str], config: dict[str, Any], device: Any) -> Any:
    """Load this version's TorchScript file."""
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
