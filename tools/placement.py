"""On which device the tensors of a TorchScript graph lie, told from the graph alone, so that no GPU is needed.

Triton moves weights and inputs to an instance's device. A device that the code names, or a tensor that it creates
without one, stays what it was where the file was made: a file from a host without a GPU then mixes CPU and GPU tensors
on one. Tracing fixes every device, even `x.device`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

INSTANCE = "instance"  # The device that Triton chooses.
NUMBER = "number"  # A CPU tensor without dimensions, which torch lets mix with any other.
# Operators that take tensors of several devices: copies, and indices on the CPU.
_MIXING = {"aten::copy_", "aten::index", "aten::index_put", "aten::index_put_", "aten::_pack_padded_sequence"}
_SCALARS = ("int", "float", "bool", "number")
_FRAME = re.compile(r'File "(.+?)", line (\d+)|^(\S.*?)\((\d+)\): ', re.MULTILINE)


@dataclass(frozen=True)
class Place:
    """A device, and the node that chose it."""

    device: str  # INSTANCE, NUMBER, "cpu" or "cuda".
    origin: Any = field(default=None, compare=False)


@dataclass(frozen=True)
class Misplaced:
    """A tensor that does not follow the instance's device, and the line of the user's source that put it there."""

    device: str
    line: str
    origin: Any = field(compare=False)

    REMEDY: ClassVar = "create it with device=x.device, x being an input, or keep it as a buffer"

    @property
    def what(self) -> str:
        """What happens where."""
        return f"{self.line}: a tensor is put on the {self.device}, whatever device the instance has"

    def __str__(self) -> str:
        """The same with the remedy."""
        return f"{self.what}; {self.REMEDY}"


def kinds(config: ModelConfig) -> tuple[bool, bool]:
    """Whether instances may run on a GPU, and whether on a CPU."""
    groups = {group.kind for group in config.instance_group}
    on_cpu = ModelInstanceGroup.KIND_CPU in groups
    return not groups or groups != {ModelInstanceGroup.KIND_CPU}, on_cpu


def misplaced(module: torch.jit.ScriptModule, on_gpu: bool, on_cpu: bool) -> list[Misplaced]:
    """What a file does on devices that instances on a GPU, or on a CPU, cannot use; each line of source once."""
    return list(dict.fromkeys(_Walk(module, module.inlined_graph).misplaced(on_gpu, on_cpu)))


def follow_input(module: torch.jit.ScriptModule) -> list[Misplaced]:
    """Let tensors that stay on the CPU follow a frozen module's first tensor instead; returns what was changed."""
    graph, changed = module.graph, []
    device = _device_of_input(graph)
    while device and (found := list(_Walk(module, graph).misplaced(True, False))):
        if not all(_redirect(one.origin, device) for one in found):
            break
        changed += found
    return list(dict.fromkeys(changed))


def _device_of_input(graph: Any) -> Any:
    for value in graph.inputs():
        if str(value.type()) == "Tensor":
            node = graph.create("prim::device", [value], 1)
            node.output().setType(torch._C.DeviceObjType.get())
            graph.prependNode(node)
            return node.output()
    return None


def _redirect(node: Any, device: Any) -> bool:
    # Whether the node now creates its tensor there.
    place = _device_argument(node)
    if place is not None and str(node.inputsAt(place).type()) != str(device.type()):
        place = place if node.inputsAt(place).type().kind() == "NoneType" else None
    if place is not None:
        node.replaceInput(place, device)
    return place is not None


def _device_argument(node: Any) -> int | None:
    if not node.schema().startswith("aten::"):
        return None
    names = [argument.name for argument in torch._C.parse_schema(node.schema()).arguments]
    return names.index("device") if "device" in names else None


class _Walk:
    """A walk over a graph, in the order of execution, that keeps the place of each value."""

    def __init__(self, module: torch.jit.ScriptModule, graph: Any) -> None:
        self.module, self.graph = module, graph
        self.places: dict[str, Place | None] = {}
        self.mixed: list[Place] = []
        for value in graph.inputs():
            self.places[value.debugName()] = Place(INSTANCE)

    def misplaced(self, on_gpu: bool, on_cpu: bool) -> Iterator[Misplaced]:
        """Walk, and yield what instances there cannot use."""
        self.block(self.graph)
        literal = [place for place in self.places.values() if place and place.device == "cuda" and place.origin]
        wrong = [place for place in self.mixed if place.device == "cpu"] * on_gpu + literal * on_cpu
        for place in wrong:
            yield Misplaced("CPU" if place.device == "cpu" else "GPU", _line(place.origin), place.origin)

    def block(self, block: Any) -> None:
        for node in block.nodes():
            for output in node.outputs():
                self.places[output.debugName()] = None
            self.node(node)

    def node(self, node: Any) -> None:
        if node.kind() == "prim::If":
            blocks = list(node.blocks())
            for inner in blocks:
                self.block(inner)
            self.join(node, [list(inner.outputs()) for inner in blocks])
        elif node.kind() == "prim::Loop":
            self.loop(node)
        else:
            place = self.place_of(node)
            for output in node.outputs():
                self.places[output.debugName()] = place

    def loop(self, node: Any) -> None:
        (body,) = node.blocks()
        before, carried = list(node.inputs())[2:], list(body.inputs())[1:]
        for value, inner in zip(before, carried, strict=True):
            self.places[inner.debugName()] = self.places.get(value.debugName())
        self.block(body)
        self.join(node, [before, list(body.outputs())[1:]])

    def join(self, node: Any, ways: Sequence[Sequence[Any]]) -> None:
        for output, *values in zip(node.outputs(), *ways, strict=True):
            places = {self.places.get(value.debugName()) for value in values}
            self.places[output.debugName()] = places.pop() if len(places) == 1 else None

    def place_of(self, node: Any) -> Place | None:
        kind = node.kind()
        if kind == "prim::Constant":
            return self.of_constant(node)
        if kind == "prim::GetAttr":
            return self.of_attribute(node)
        if kind == "prim::NumToTensor":
            return Place(NUMBER)
        if kind == "aten::cpu":
            return Place("cpu", node)
        if kind == "aten::cuda":
            return Place("cuda", node)
        if kind in ("aten::type_as", "aten::to") and node.inputsSize() > 1 and _is_tensor(node.inputsAt(1)):
            return self.at(node, 1)
        return self.of_operator(node)

    def at(self, node: Any, place: int) -> Place | None:
        return self.places.get(node.inputsAt(place).debugName())

    def of_constant(self, node: Any) -> Place | None:
        value = node.output().toIValue()
        if isinstance(value, torch.device):
            return Place(value.type)
        if isinstance(value, torch.Tensor):
            return Place(INSTANCE if value.dim() else NUMBER)
        # Tracing keeps `+ 1` as a number of a tensor's type.
        return Place(NUMBER) if _is_tensor(node.output()) else None

    def of_attribute(self, node: Any) -> Place | None:
        if str(node.output().type()) != "Device":
            return Place(INSTANCE)
        names, owner = [node.s("name")], node.inputsAt(0).node()
        while owner.kind() == "prim::GetAttr":
            names, owner = [owner.s("name"), *names], owner.inputsAt(0).node()
        value: Any = self.module
        for name in names:
            value = getattr(value, name, None)
        return Place(value.type) if isinstance(value, torch.device) else None

    def of_operator(self, node: Any) -> Place | None:
        tensors = list(self.tensors(node))
        if not any(_is_tensor(output) or str(output.type()) == "Device" for output in node.outputs()):
            # Lists and tuples lie where all of their items do; numbers lie nowhere.
            return tensors[0] if tensors and all(place == tensors[0] for place in tensors) else None
        device = _device_argument(node)
        if device is not None and node.inputsAt(device).type().kind() != "NoneType":
            named = self.at(node, device)
            if tensors == [Place(NUMBER)]:
                return tensors[0]
            return named and (named if named.device == INSTANCE else Place(named.device, node))
        known = {place for place in tensors if place and place.device != NUMBER}
        if not tensors and node.kind().startswith("aten::") and device is not None:
            return Place(NUMBER if _makes_number(node) else "cpu", node)
        if len(known) > 1 and node.kind() not in _MIXING:
            self.mixed += [place for place in known if place.device != INSTANCE]
        if None in tensors or not known:
            return tensors[0] if tensors and None not in tensors else None
        return Place(INSTANCE) if Place(INSTANCE) in known else next(iter(known))

    def tensors(self, node: Any) -> Iterator[Place | None]:
        for value in node.inputs():
            if value.node().kind() in ("prim::ListConstruct", "prim::TupleConstruct"):
                yield from self.tensors(value.node())
            elif "Tensor" in str(value.type()):
                yield self.places.get(value.debugName())


def _is_tensor(value: Any) -> bool:
    return bool(value.type().kind() == "TensorType")


def _makes_number(node: Any) -> bool:
    # torch.tensor(0.5): a single number.
    return node.kind() in ("aten::tensor", "aten::scalar_tensor") and str(node.inputsAt(0).type()) in _SCALARS


def _line(node: Any) -> str:
    text = node.sourceRange().partition("Serialized")[0]
    frames = [(match[1] or match[3], match[2] or match[4]) for match in _FRAME.finditer(text)]
    own = [frame for frame in frames if "/torch/" not in frame[0]] or frames
    return f"{own[0][0]}:{own[0][1]}" if own else "a line that the file does not tell"
