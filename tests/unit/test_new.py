"""`tools.new` before anything is served: what it finds out by trials, what it writes, and what it refuses."""

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clients.command import options_from
from tests.unit import networks
from tools import recipes, torchscript
from tools.export import __main__ as export
from tools.export.advice import advice
from tools.export.agreement import ProofError
from tools.export.publication import Manifest
from tools.new import __main__ as new
from tools.new import creation, first_call
from tools.new.options import OptionError, Options
from tools.new.plan import Plan, check, conversion_notes, make_plan, publish, write_files
from tools.recipes import Imported, RecipeError
from tools.repository import ROOT, read_config, read_manifest, versions
from tools.torchvision_import import load_torchvision

pytestmark = pytest.mark.usefixtures("one_thread")
NETWORKS = Path(networks.__file__)
Patch = pytest.MonkeyPatch
Printed = pytest.CaptureFixture[str]


@dataclass(frozen=True)
class Made:
    """A model that was written and proven in a folder of its own."""

    repository: Path
    plan: Plan
    manifest: Manifest

    @property
    def contract(self) -> str:
        """Inputs, outputs and the largest batch, in one line."""
        design = self.plan.design
        tensors = (
            " ".join(f"{spec.name}:{spec.datatype}{list(spec.dims)}" for spec in specs)
            for specs in (design.inputs, design.outputs)
        )
        return f"{' -> '.join(tensors)} x{design.max_batch_size}"

    def has_note(self, text: str) -> bool:
        """Whether a note contains a text."""
        return any(text in note for note in (*self.plan.notes, *conversion_notes(self.manifest.evidence)))


Make = Callable[..., Made]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Try, write and prove a model as the command does, without the server."""

    def run(*flags: str | Path, name: str = "model") -> Made:
        arguments = new._parser().parse_args([name, *map(str, flags), "--repository", str(tmp_path)])
        plan = make_plan(options_from(arguments, Options), new._recipe(arguments))
        write_files(plan, tmp_path)
        manifest = publish(plan, tmp_path)
        assert check(tmp_path) == []
        return Made(tmp_path, plan, manifest)

    return run


def module(name: str, inputs: str | None = None, **arguments: int) -> list[str]:
    """Flags for one of the networks."""
    flags = ["--module", f"{NETWORKS}:{name}", "--arguments", json.dumps(arguments)]
    return [*flags, "--example-inputs", inputs] if inputs else flags


@pytest.mark.parametrize(
    ("name", "inputs", "contract", "note"),
    [
        (
            "Towers", "user:INT64[1],item:FP32[6]",
            "user:INT64[1] item:FP32[6] -> OUTPUT__0:FP32[1] OUTPUT__1:FP32[3] x64", "--checkpoint FILE",
        ),
        (
            "Named", "item:FP32[6],user:INT64[]",
            "item:FP32[6] user:INT64[1] -> embedding__0:FP32[3] known__1:BOOL[1] score__2:FP32[1] x64",
            "the served file returns a tuple of its values, sorted by key: embedding__0, known__1, score__2",
        ),
        ("Statistics", "FP32[5]", "x:FP32[5] -> mean__0:FP32[1] spread__1:FP32[1] x64", "returns a Moments"),
        ("Gate", "FP32[3],BOOL[3]", "x:FP32[3] keep:BOOL[3] -> OUTPUT__0:FP32[3] OUTPUT__1:BOOL[3] x64", "--labels"),
        ("FromDict", "right:FP32[2],left:FP32[2]", "right:FP32[2] left:FP32[2] -> OUTPUT__0:FP32[2] x64", "--labels"),
        ("Texts", "STRING[-1]", "texts:STRING[-1] -> OUTPUT__0:STRING[-1] OUTPUT__1:INT64[-1] x0", "without batches"),
        ("Ranks", "FP32[6]", "x:FP32[6] -> OUTPUT__0:FP32[6] x0", "a row's answer depends on its batch"),
        (
            "Optional", "x:FP32[-1,3]",
            "x:FP32[-1, 3] -> OUTPUT__0:FP32[-1, 2] OUTPUT__1:FP32[2] OUTPUT__2:FP32[2] x64", "--max-batch-size",
        ),
        (
            "Recurrent", "FP32[4,3]",
            "input:FP32[4, 3] -> OUTPUT__0:FP32[4, 2] OUTPUT__1:FP32[1, 2] OUTPUT__2:FP32[1, 2] x0",
            "output 1 is [1, 2, 2] torch.float32 for a batch of 2: it has no row for each input",
        ),
        ("Total", "FP32[3]", "x:FP32[3] -> OUTPUT__0:FP32[1] x0", "OUTPUT__0 has no dimension besides the batch"),
        ("Filter", "FP32[9]", "x:FP32[9] -> OUTPUT__0:FP32[-1] x0", "without batches"),
        ("Convolution", "FP32[3,-1,-1]", "image:FP32[3, -1, -1] -> OUTPUT__0:FP32[2, -1, -1] x64", "batches of up to"),
        ("Convolution", "FP32[3,99,99]", "image:FP32[3, 99, 99] -> OUTPUT__0:FP32[2, 49, 49] x8", "batches of up to 8"),
        ("INSTANCE", None, "x:FP32[5] -> OUTPUT__0:FP32[2] x64", "input x FP32 [5], as the network takes it"),
        ("Kinds", "INT64[3]", "kind:INT64[3] -> OUTPUT__0:INT64[3, -1] x0", "a row's answer depends on its batch"),
        ("FromOne", "INT64[2]=1..4", "ids:INT64[2] -> OUTPUT__0:FP32[2, 3] x64", "values from 1 to 4; other values"),
        ("Sound", "FP32[-1]", "sound:FP32[-1] -> OUTPUT__0:FP32[4] x64", "dims [250], [375], [251]: the smallest step"),
        (
            "Hourglass", "FP32[1,-1,-1]", "image:FP32[1, -1, -1] -> OUTPUT__0:FP32[2, -1, -1] x64",
            "dims [1, 32, 32], [1, 64, 64], [1, 32, 64]: the smallest step that works from the first is 32",
        ),
        ("Exactly", "FP32[-1]", "sound:FP32[-1] -> OUTPUT__0:FP32[3] x64", "dims [3000]: no size close to the first"),
        (
            "Optionals", None,
            "input_ids:INT64[-1] attention_mask:INT64[-1] -> last__0:FP32[-1, 3] pooled__1:FP32[3] x64",
            "input_ids was tried with values from 0 to 8",
        ),
        ("Optionals", "input_ids:INT64[4]", "input_ids:INT64[4] -> last__0:FP32[4, 3] pooled__1:FP32[3] x64", "Answer"),
        ("compiled", "FP32[5]", "input:FP32[5] -> OUTPUT__0:FP32[2] x64", "no weights"),
        ("compiled_in_place", "FP32[5]", "x:FP32[5] -> OUTPUT__0:FP32[2] x64", "no weights"),
        ("parallel", None, "x:FP32[5] -> OUTPUT__0:FP32[2] x64", "no recipe: "),
        ("AtStart", "FP32[5]", "x:FP32[5] -> OUTPUT__0:FP32[2] x64", "lines follow the input's device: "),
        ("Constant", "FP32[5]", "x:FP32[5] -> OUTPUT__0:FP32[5] x64", "OUTPUT__0 is the same for every input"),
    ],
)  # fmt: skip
def test_the_contract_is_found_by_trial_and_proven(
    name: str, inputs: str | None, contract: str, note: str, make: Make
) -> None:
    made = make(*module(name, inputs))
    assert made.contract == contract
    assert made.has_note(note), made.plan.notes
    assert versions("model", made.repository) == [1] and read_config("model", "cpu", made.repository)


@pytest.mark.parametrize(("name", "inputs"), [("Towers", "user:INT64[1],item:FP32[6]"), ("Named", "INT64[],FP32[6]")])
def test_the_served_file_returns_the_network_s_outputs_as_a_tuple(name: str, inputs: str, make: Make) -> None:
    made = make(*module(name, inputs))
    file = torchscript.load(made.repository / "model" / "1" / "model.pt")
    users, items = torch.tensor([[0], [3]]), torch.ones(2, 6)
    found = torchscript.outputs(file, users, items)
    network = made.plan.network
    expected = network(users, items) if name == "Towers" else network(users.squeeze(1), items)
    wanted = expected if name == "Towers" else (expected["embedding"], expected["known"], expected["score"][:, None])
    assert all(torch.allclose(one, other) for one, other in zip(found, wanted, strict=True))


def example_file(path: Path, **inputs: Any) -> Path:
    """Write examples of inputs to a file of the path's kind."""
    if path.suffix == ".npz":
        np.savez(path, **inputs)
    elif path.suffix == ".json":
        path.write_text(json.dumps(inputs))
    else:
        Image.fromarray(inputs["pixels"]).save(path)
    return path


def test_examples_from_files_take_the_place_of_random_inputs(make: Make, tmp_path: Path) -> None:
    one = example_file(tmp_path / "one.json", words=[1, 2, 4, 7, 5], offsets=[0, 2])
    two = example_file(tmp_path / "two.npz", words=np.array([3, 49]), offsets=np.array([0, 1]))
    made = make(*module("Bags"), "--examples", one, two)
    assert made.contract == "words:INT64[-1] offsets:INT64[2] -> OUTPUT__0:FP32[2, 3] x0"
    assert made.has_note("words was tried with values from 1 to 49 of 2 examples; other values were not")
    assert made.plan.recipe.examples == (str(one), str(two))
    text = (made.repository / "model" / "config.pbtxt").read_text()
    assert "# Proven with values from 1 to 49 of 2 examples; dims [5], [2]: other sizes were not tried." in text
    # Triton must not warm it up with zeros, which are no offsets.
    assert (
        text.count("input_data_file") == 2 and (made.repository / "model" / "warmup" / "offsets").stat().st_size == 16
    )


def test_an_array_with_one_more_dimension_holds_several_examples(make: Make, tmp_path: Path) -> None:
    rows = example_file(tmp_path / "rows.npz", kind=np.array([[0, 2, 1], [5, 0, 0]]))
    made = make(*module("Kinds", "kind:INT64[3]"), "--examples", rows, "--max-batch-size", "0")
    assert made.contract == "kind:INT64[3] -> OUTPUT__0:INT64[3, -1] x0"
    assert made.has_note("values from 0 to 5 of 2 examples")


def test_an_image_is_an_example(make: Make, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    picture = example_file(tmp_path / "picture.png", pixels=pixels)
    assert make(*module("Convolution"), "--examples", picture).contract.startswith("image:FP32[3, 20, 30] -> ")


@pytest.mark.parametrize(
    ("content", "inputs", "message"),
    [
        ({"words": [1]}, "INT64[1],INT64[1]", "has words; expected the inputs words, offsets"),
        ({"words": [1.5], "offsets": [0]}, "INT64[1],INT64[1]", "words is of type float32; expected INT64"),
        ({"words": [1, 2, 3], "offsets": [0]}, "INT64[2],INT64[1]", "words has shape [3]; expected [2], or rows of"),
        ({"words": [1]}, None, "--example-inputs lacks (offsets)"),
        ({"words": None, "offsets": [0]}, None, "expected numbers, booleans or texts, got null"),
    ],
)
def test_an_example_that_does_not_fit_is_refused(
    content: dict[str, Any], inputs: str | None, message: str, make: Make, tmp_path: Path
) -> None:
    with pytest.raises((RecipeError, OptionError)) as refusal:
        make(*module("Bags", inputs), "--examples", example_file(tmp_path / "one.json", **content))
    assert message in str(refusal.value)


def test_rows_that_the_network_refuses_are_named(make: Make) -> None:
    assert make(*module("Cautious", "FP32[3]")).has_note(
        "such a request fails its whole batch: a row of zeros: forward"
    )


def test_sizes_can_be_named(make: Make) -> None:
    made = make(*module("Hourglass", "FP32[1,-1,-1]"), "--sizes", "96", "32x128")
    assert made.has_note("image: tried with dims [1, 96, 96], [1, 32, 128]: other sizes were not tried")
    assert made.plan.recipe.dims == ({"image": (1, 96, 96)}, {"image": (1, 32, 128)})
    with pytest.raises(ProofError, match="forward fails on"):
        make(*module("Hourglass", "FP32[1,-1,-1]"), "--sizes", "40", name="other")


def test_a_network_that_cannot_be_scripted_is_traced_with_a_note(make: Make) -> None:
    made = make(*module("Lambda", classes=2))
    assert made.manifest.evidence.method == "traced" and made.has_note(
        "not scripted: cannot be written as TorchScript: Lambda"
    )


def test_a_note_names_each_line_at_which_tracing_fixed_a_decision(make: Make) -> None:
    made = make(*module("Recurrent", "FP32[4,3]"))
    assert made.has_note("rnn.py")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (module("Baked", classes=2), "no TorchScript file answers as the network does. scripted: cannot be written"),
        (module("Branching", classes=2), "traced: OUTPUT__0: TorchScript differs from eager by"),
        (module("FixedBatch", "FP32[5]", classes=2), "--max-batch-size 0 --example-inputs 'x:FP32[4,5]'"),
        (module("Noisy", "FP32[5]"), "different answers; it must not draw random numbers in eval mode"),
        (module("Counter", "FP32[5]"), "different answers, because each call changes count; a served model keeps noth"),
        (module("Brain", "FP32[5]"), "output 0 is of type bfloat16, which libtorch cannot pass to Triton"),
        (module("Counting", "FP32[5]"), "['count'] is of type int; Triton can serve tensors and List[str] only"),
        (module("Variadic", "FP32[5]"), "takes any number of arguments"),
        (
            module("half", "FP32[5]"),
            "its weights are float16; give FP16 inputs, or return network.float() from a funct",
        ),
        (module("OnGpu", "FP32[5]"), "forward moves tensors to a GPU itself; leave that to Triton: omit .cuda()"),
        (
            module("Several", "FP32[5]"),
            "forward's parameter 'xs' is of type list[Tensor], and Triton passes one tensor",
        ),
        (module("Scaled", "x:FP32[5],by:FP32[1]"), "parameter 'by' is of type tuple[Tensor, float]"),
        (module("Towers", "user:FP32[1],item:FP32[6]"), "an embedding takes whole numbers: give INT64"),
        (module("Texts", "STRING[2]") + ["--max-batch-size=4"], "texts (List[str]) are served without batches"),
        (module("Ranks", "FP32[6]") + ["--max-batch-size=4"], "a row's answer depends on its batch"),
        (module("Convolution"), "--example-inputs 'image:FP32[3,224,224]'"),
        (module("Towers", "user:INT64[1]=9..0,item:FP32[6]"), "user: expected LEAST..LARGEST within INT64, got 9..0"),
        (module("Towers", "user:INT64[1]=0..x,item:FP32[6]"), "user: expected values such as 0..9, got 0..x"),
        (module("Gate", "FP32[3],BOOL[3]=0..1"), "keep: BOOL has no range; omit =0..1"),
        (
            module("FromOne", "INT64[2]"),
            "give those that callers send: --example-inputs 'ids:INT64[2]=1..9', or --exam",
        ),
        (module("FromOne", "INT64[2]=0..4"), "index out of range in self. Correct --example-inputs, or forward"),
        (module("Recurrent", "FP32[-1,4]"), "no size for the dims of -1 works (forward fails on"),
        (module("Bags") + ["--examples", __file__], "test_new.py: expected .npz, .json, or an image"),
        (module("Towers"), "give them, in the form --example-inputs 'user:FP32[6],item:FP32[6]'"),
        (module("Towers", "user:INT64[1]"), "forward takes (user, item); --example-inputs lacks (item)"),
        (module("Towers", "who:INT64[1],item:FP32[6]"), "forward has no parameter (who); it takes (user, item)"),
        (module("Towers", "user:INT64[1],user:FP32[6]"), "gives (user) more than once"),
        (module("Towers", "INT64[1],FP32[6],FP32[6]"), "has 3; forward takes (user, item)"),
        (
            module("Towers", "user:INT64(1)"),
            "cannot read 'user:INT64(1)' in --example-inputs 'user:INT64(1)'; expected",
        ),
        (module("Towers", "user:INT64[1],"), "cannot read '' in --example-inputs"),
        (module("Towers", "user:BF16[1]"), "user: libtorch has no type BF16; --example-inputs takes BOOL, UINT8"),
        (module("Towers", "user:INT64[0],item:FP32[6]"), "user: expected dimensions of at least 1, or -1; got [0]"),
        (module("Towers", "user:INT64[1],item:FP32[7]"), "forward fails on [2, 1] torch.int64, [2, 7] torch.float32: "),
        (module("Texts", "STRING[2,2]"), "texts: texts are a List[str], with one dimension"),
        (module("FromDict", "FP32[2]"), "forward takes the dict 'named'; give --example-inputs its keys"),
        (module("Sized"), """missing a required argument: 'classes'; give its arguments as JSON, for example --argu"""),
        (module("Sized", classes=2, size=2), "got an unexpected keyword argument 'size'"),
        (module("Sixed"), "networks.py has no 'Sixed'; its networks: Towers, Named, Statistics"),
        (module("NUMBER"), "NUMBER is neither a torch.nn.Module nor a function that returns one"),
        (module("nothing"), "nothing returned NoneType; expected a torch.nn.Module"),
        (module("failing"), "failing failed: ValueError: no such size"),
        (["--module", "networks"], "expected --module PATH.py:CLASS, got 'networks'"),
        (["--module", "no/such.py:Net"], "no/such.py does not exist or is not a file"),
        (["--torchvision", "resnet15"], "torchvision has no model 'resnet15'; did you mean resnet152"),
        (["--torchvision", "resnet18", "--weights", "BEST"], "no weights 'BEST' of resnet18; there are: IMAGENET1K_V1"),
        (["--torchvision", "resnet18", "--arguments", '{"class": 3}'], "refuses --arguments {'class': 3}"),
        (["--torchvision", "fasterrcnn_resnet50_fpn"], "needs torchvision::roi_align"),
        (["--torchvision", "r3d_18"], "--example-inputs 'x:FP32[3,16,112,112]'"),
        (["--torchscript", __file__], "test_new.py is a file of an unknown kind"),
        (module("INSTANCE") + ["--weights", "DEFAULT"], "--weights are torchvision's"),
        (["--torchscript", __file__, "--checkpoint", __file__], "a --torchscript file has its weights"),
        (module("INSTANCE") + ["--labels", "no_such.txt"], "--labels no_such.txt cannot be read: No such file"),
        (
            module("INSTANCE") + ["--labels", __file__],
            "but no floating-point output has as many scores; outputs: OUTPUT__0 [2]",
        ),
        (
            module("INSTANCE") + ["--checkpoint", __file__],
            "is a file of an unknown kind, not a checkpoint",
        ),
    ],
)
def test_unusable_networks_and_options_are_refused_with_the_remedy(
    flags: list[str], message: str, make: Make, tmp_path: Path
) -> None:
    with pytest.raises((RecipeError, OptionError, ProofError)) as refusal:
        make(*flags)
    assert message in str(refusal.value)
    assert not list(tmp_path.glob("model/1"))


def in_safetensors(state: dict[str, torch.Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    save_file(state, path)


def trained() -> dict[str, torch.Tensor]:
    """A state dict, the same each time."""
    torch.manual_seed(3)
    return dict(networks.Sized(3, width=4).state_dict())


OLDER = {name: tensor + 1 for name, tensor in trained().items()}
SETTINGS = argparse.Namespace(lr=0.1, output=Path("runs"))


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (trained(), ""),
        ({"epoch": 3, "state_dict": trained(), "optimizer": {"state": {0: {"step": torch.ones(1)}}}}, ""),
        ({f"module.{name}": tensor for name, tensor in trained().items()}, ""),
        ({"generator": trained(), "discriminator": {"weight": torch.ones(3)}}, ""),
        ({"params": OLDER, "params_ema": trained()}, "#params_ema"),
        ({"net": {"student": OLDER, "teacher": trained()}}, "#net.teacher"),
        ({"model": trained(), "args": SETTINGS, "best": np.float64(0.9), "curve": np.ones(3)}, ""),
        (None, ""),
    ],
    ids=["bare", "state_dict", "module.", "generator", "params_ema", "nested", "settings", "safetensors"],
)
def test_a_state_dict_is_found_wherever_training_scripts_store_it(
    content: Any, key: str, make: Make, tmp_path: Path
) -> None:
    file = tmp_path / "trained#1.pt"
    torch.save(content, file) if content else in_safetensors(trained(), file)
    made = make(*module("Sized", classes=3, width=4), "--checkpoint", f"{file}{key}")
    network = torchscript.load(made.repository / "model" / "1" / "model.pt")
    (found,) = torchscript.outputs(network, torch.ones(1, 4))
    weights = trained()
    assert torch.allclose(found, weights["layer.weight"].sum(1) + weights["layer.bias"], atol=1e-6)
    assert not made.has_note("no weights were given")
    imported = made.manifest.document()["imported"]
    assert imported["checkpoint"] == f"{file}{key}" and str(file) in imported["sha256"]


@pytest.mark.parametrize(
    ("content", "key", "message"),
    [
        (trained(), "", "layer.weight is [3, 4], the network has [2, 5]; layer.bias is [3], the"),
        ({"weight": torch.ones(2)}, "", "layer.weight is missing; layer.bias is missing; weight is not in the network"),
        ({"epoch": 3}, "", "holds no state dict, itself or under a key; save one"),
        (torch.ones(2), "", "holds no state dict"),
        (
            networks.INSTANCE,
            "",
            "is a pickled object with tests.unit.networks.Sized; loading it would run code",
        ),
        ({"model": networks.INSTANCE}, "", "save the weights alone: torch.save(NETWORK.state_dict(), FILE)"),
        ({"a": {"b": trained()}, "c": {"w": torch.ones(1)}}, "#b", "no state dict under 'b'; it has them under a.b, c"),
        (
            {"params": networks.INSTANCE.state_dict(), "params_ema": networks.INSTANCE.state_dict()},
            "",
            "holds several sets of weights that fit: params, params_ema; choose one: --checkpoint '",
        ),
    ],
)
def test_a_checkpoint_of_another_network_is_refused(
    content: Any, key: str, message: str, make: Make, tmp_path: Path
) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(RecipeError) as refusal:
        make(*module("INSTANCE"), "--checkpoint", f"{tmp_path}/other.pt{key}")
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("flag", "kind", "message"),
    [
        ("--torchscript", "state", "is a state dict; give it as --checkpoint, with the --module or"),
        ("--torchscript", "module", "is a pickled object with tests.unit.networks.Sized; loading it would run code"),
        ("--torchscript", "pt2", "is a torch.export program (.pt2); give its Python source as --module"),
        ("--torchscript", "onnx", 'is an ONNX model; serve it as it is, in a folder of its own with backend: "onnxr'),
        ("--torchscript", "safetensors", "is a safetensors file; give it as --checkpoint"),
        ("--torchscript", "lfs", "is a Git LFS pointer; run `git lfs pull`"),
        ("--torchscript", "empty", "is empty; download or save it again"),
        ("--module", "module", "is a pickled object with tests.unit.networks.Sized; loading it would run code"),
        ("--module", "torchscript", "is a TorchScript file; give it as --torchscript"),
        ("--checkpoint", "torchscript", "is a TorchScript file, not a checkpoint; give it as --torchscript"),
        ("--checkpoint", "onnx", "is an ONNX model, not a checkpoint; serve it as it is"),
        ("--checkpoint", "pt2", "is a torch.export program (.pt2), not a checkpoint"),
    ],
)
def test_a_file_of_another_kind_is_called_by_its_name_with_what_to_do_with_it(
    flag: str, kind: str, message: str, make: Make, tmp_path: Path
) -> None:
    file = tmp_path / "brought"
    write_kind(kind, file)
    source = [*module("INSTANCE"), flag, file] if flag == "--checkpoint" else [flag, file]
    with pytest.raises(RecipeError) as refusal:
        make(*source)
    assert message in str(refusal.value)


def write_kind(kind: str, file: Path) -> None:
    """Write a small file of a kind."""
    if kind == "pt2":
        torch.export.save(torch.export.export(networks.Sized(2), (torch.ones(2, 5),)), file)
    elif kind == "torchscript":
        torchscript.save(networks.Sized(2), file)
    elif kind == "safetensors":
        in_safetensors(trained(), file)
    elif kind in ("state", "module"):
        torch.save(trained() if kind == "state" else networks.INSTANCE, file)
    else:
        # The beginning of an ONNX file: its version and the name of what wrote it.
        texts = {
            "onnx": b"\x08\x08\x12\x07pytorch",
            "lfs": b"version https://git-lfs.github.com/spec/v1\n",
            "empty": b"",
        }
        file.write_bytes(texts[kind])


def traced(network: torch.nn.Module, path: Path, *example: torch.Tensor) -> Path:
    """A traced file, as users bring it."""
    with torchscript.quiet():
        torch.jit.trace(network.eval(), example, strict=False).save(str(path))
    return path


def test_a_torchscript_file_keeps_its_own_argument_names(make: Make, tmp_path: Path) -> None:
    with torchscript.quiet():
        torch.jit.script(networks.Named().train()).save(str(tmp_path / "named.pt"))
    made = make("--torchscript", tmp_path / "named.pt", "--example-inputs", "user:INT64[],item:FP32[6]")
    assert made.contract.startswith("user:INT64[1] item:FP32[6] -> embedding__0:FP32[3] known__1:BOOL[1]")


def test_a_frozen_file_with_a_dict_is_wrapped(make: Make, tmp_path: Path) -> None:
    with torchscript.quiet():
        torch.jit.freeze(torch.jit.script(networks.Named().eval())).save(str(tmp_path / "named.pt"))
    assert "score__2" in make("--torchscript", tmp_path / "named.pt", "--example-inputs", "INT64[],FP32[6]").contract


def test_a_file_traced_with_a_fixed_batch_is_refused_unless_served_as_that_batch(make: Make, tmp_path: Path) -> None:
    file = traced(networks.FixedBatch(2), tmp_path / "fixed.pt", torch.ones(4, 5))
    with pytest.raises(ProofError, match="It takes batches of 4 and no other: give that as a dimension"):
        make("--torchscript", file, "--example-inputs", "FP32[5]")
    made = make("--torchscript", file, "--example-inputs", "FP32[4,5]", "--max-batch-size", "0", name="other")
    assert made.contract == "x:FP32[4, 5] -> OUTPUT__0:FP32[4, 2] x0"


def test_a_file_without_shapes_needs_example_inputs(make: Make, tmp_path: Path) -> None:
    file = traced(networks.Sized(2), tmp_path / "sized.pt", torch.ones(4, 5))
    with pytest.raises(OptionError, match="the shape of forward's argument 'x' cannot be inferred; give it"):
        make("--torchscript", file)


def test_int8_networks_are_served_on_cpus_only(make: Make, tmp_path: Path) -> None:
    from tools.compression.quantization import dynamic_int8

    with torchscript.quiet():
        quantized = dynamic_int8(networks.Sized(2).eval(), torch.ones(4, 5))
        torch.jit.script(quantized).save(str(tmp_path / "int8.pt"))
    made = make("--torchscript", tmp_path / "int8.pt", "--example-inputs", "FP32[5]", "--tolerance", "0.1")
    assert made.has_note("KIND_CPU") and "kind: KIND_CPU" in (made.repository / "model" / "config.pbtxt").read_text()


def test_a_file_in_a_package_can_import_from_it(make: Make, tmp_path_factory: pytest.TempPathFactory) -> None:
    package = tmp_path_factory.mktemp("source") / "brought"
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copy(NETWORKS, package / "parts.py")
    (package / "whole.py").write_text("from .parts import Sized\n\n\ndef net():\n    return Sized(7)\n")
    assert "OUTPUT__0:FP32[7]" in make("--module", f"{package}/whole.py:net").contract


DETECTOR = """
import torch
from torch import Tensor, nn
from torchvision.models import squeezenet1_1
from torchvision.ops import batched_nms, nms


class Boxes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        boxes = torch.cat([x[:, :2], x[:, :2] + x[:, 2:4].abs()], 1)
        return torch.zeros_like(x[:, 4]).index_fill(0, self.keep(boxes, x[:, 4]), 1.0)

    def keep(self, boxes: Tensor, scores: Tensor) -> Tensor:
        return nms(boxes, scores, 0.3)


class ByClass(Boxes):
    def keep(self, boxes: Tensor, scores: Tensor) -> Tensor:
        cut = lambda threshold: batched_nms(boxes, scores, (scores > 0).long(), threshold)  # Cannot be scripted.
        return cut(0.3)
"""


@pytest.mark.parametrize(("name", "method"), [("Boxes", "scripted"), ("ByClass", "traced")])
def test_code_that_imports_torchvision_works_whichever_build_it_is_and_its_nms_is_served(
    name: str, method: str, make: Make, tmp_path: Path
) -> None:
    (tmp_path / "detector.py").write_text(DETECTOR)
    source = ["--module", f"{tmp_path}/detector.py:{name}", "--example-inputs", "FP32[20,5]", "--max-batch-size", "0"]
    made = make(*source)
    assert made.manifest.evidence.method == method
    file = torchscript.load(made.repository / "model" / "1" / "model.pt")
    twins = torch.tensor([[0.0, 0, 9, 9, 0.1], [50, 50, 9, 9, 0.5], [0, 0, 9, 9, 0.9], *[[200.0, 0, 1, 1, 0]] * 17])
    (found,) = torchscript.outputs(file, twins)
    assert found[:3].tolist() == [0, 1, 1] and found.sum() == 3


def test_an_operator_that_servers_lack_is_the_reason_for_a_refusal() -> None:
    with pytest.raises(RuntimeError) as failure, torchscript.quiet():
        torch.jit.script(load_torchvision().ops.roi_align)
    reason = advice(str(failure.value), networks.INSTANCE, [])
    assert reason.startswith("it needs torchvision::roi_align, an operator of torchvision's C++ library")


def test_the_config_explains_each_number_in_a_comment(make: Make) -> None:
    text = (make(*module("Named", "INT64[],FP32[6]")).repository / "model" / "config.pbtxt").read_text()
    assert text.startswith("# model: Named of ")
    lines = [line.strip() for line in text.splitlines()]
    for number in ("max_batch_size: 64", "max_queue_delay_microseconds: 0", "dims: [ 1 ]"):
        assert lines[lines.index(number) - 1].startswith("#"), number
    assert max(map(len, lines)) <= 120


def test_labels_belong_to_the_output_with_as_many_scores(make: Make, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("no\nyes\n")
    made = make(*module("INSTANCE"), "--labels", tmp_path / "names.txt")
    assert (made.repository / "model" / "labels.txt").read_text() == "no\nyes\n"
    assert read_config("model", repository=made.repository).output[0].label_filename == "labels.txt"


def test_a_torchvision_model_says_how_clients_prepare_its_images(make: Make) -> None:
    from clients.images import image_spec
    from tools.contract import read_contract

    made = make("--torchvision", "squeezenet1_1", "--example-inputs", "FP32[3,64,64]", "--max-batch-size", "2")
    spec = image_spec(read_contract("model", made.repository))
    assert (spec.height, spec.width, spec.mean[0], spec.std[2]) == (64, 64, 0.485, 0.225)


# The command itself; what the server says is in tests/e2e/test_new.py.


@pytest.fixture
def command(tmp_path: Path, monkeypatch: Patch) -> Callable[..., int]:
    """Run the command in this process on a repository of its own, without the first call."""
    for folder in ("models", "recipes"):
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(first_call, "serve_and_call", lambda *_: 0.0)

    def run(*flags: str | Path) -> int:
        places = ["--repository", tmp_path / "models", "--recipes", tmp_path / "recipes"]
        monkeypatch.setattr(sys, "argv", ["new", *map(str, [*flags, *places])])
        return new.main()

    return run


def test_both_entries_appear_and_export_makes_the_next_version_from_them(
    command: Callable[..., int], tmp_path: Path, monkeypatch: Patch, capsys: Printed
) -> None:
    torch.save(networks.Sized(3, width=4).state_dict(), tmp_path / "trained.pt")
    flags = ["brought", *module("Sized", classes=3, width=4), "--checkpoint", tmp_path / "trained.pt"]
    assert command(*flags) == 0
    made = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert made["recipe"] == str(tmp_path / "recipes" / "brought.py") and made["method"] == "scripted"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models", "recipes", "trained.pt"]

    monkeypatch.setattr(recipes, "__path__", [*recipes.__path__, str(tmp_path / "recipes")])
    recipe = recipes.load("brought")
    assert isinstance(recipe, Imported) and recipe.arguments == {"classes": 3, "width": 4} and not recipe.default
    trained = networks.Sized(3, width=4).state_dict()
    torch.save(trained, tmp_path / "trained.pt")
    monkeypatch.setattr(sys, "argv", ["export", "brought", "--repository", str(tmp_path / "models")])
    assert export.main() == 0
    assert versions("brought", tmp_path / "models") == [1, 2]
    file = torchscript.load(tmp_path / "models" / "brought" / "2" / "model.pt")
    (found,) = torchscript.outputs(file, torch.ones(1, 4))
    assert torch.allclose(found, trained["layer.weight"].sum(1) + trained["layer.bias"], atol=1e-6)
    first, second = (read_manifest("brought", version, tmp_path / "models")["imported"] for version in (1, 2))
    assert first["sha256"] != second["sha256"]


def test_a_written_recipe_is_formatted_and_lint_free(command: Callable[..., int], tmp_path: Path) -> None:
    import subprocess

    assert command("first", *module("Optional", "x:FP32[-1,3],mask:FP32[-1,1]"), "--tolerance", "1e-3") == 0
    assert command("second", *module("Named", "INT64[],FP32[6]")) == 0
    files = sorted((tmp_path / "recipes").glob("*.py"))
    assert len(files) == 2
    for action in (["format", "--check"], ["check"]):
        line = [sys.executable, "-m", "ruff", *action, "--config", ROOT / "pyproject.toml", *files]
        assert subprocess.run(line, capture_output=True).returncode == 0


@pytest.mark.parametrize("name", ["2fast", "a-b", "class", "../x", ""])
def test_an_invalid_name_is_refused(name: str, command: Callable[..., int], capsys: Printed) -> None:
    assert command(name, *module("INSTANCE")) == 2
    assert f"error: '{name}' cannot name a model and its recipe" in capsys.readouterr().err


def test_a_repository_that_does_not_exist_is_refused_with_how_to_make_it(
    command: Callable[..., int], tmp_path: Path, capsys: Printed
) -> None:
    (folder := tmp_path / "models").rmdir()
    assert command("mine", *module("INSTANCE")) == 2
    assert f"error: {folder} does not exist; create it first: mkdir -p {folder}\n" in capsys.readouterr().err


def test_an_existing_name_is_refused(command: Callable[..., int], tmp_path: Path, capsys: Printed) -> None:
    (tmp_path / "recipes" / "taken.py").write_text("mine")
    assert command("taken", *module("INSTANCE")) == 2
    assert (
        "recipes/taken.py exists; choose another name, or remove both entries of taken first" in capsys.readouterr().err
    )
    assert (tmp_path / "recipes" / "taken.py").read_text() == "mine" and not list((tmp_path / "models").iterdir())


def test_a_failure_leaves_nothing_behind(
    command: Callable[..., int], tmp_path: Path, monkeypatch: Patch, capsys: Printed
) -> None:
    assert command("brought", *module("Baked", classes=2)) == 1
    out, err = capsys.readouterr()
    assert out == "" and "\nerror: brought: no TorchScript file answers as the network does" in err

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(creation, "write_atomically", fail)
    assert command("brought", *module("INSTANCE")) == 2
    assert (
        "recipes/brought.py cannot be written (No space left on device); nothing was published"
        in capsys.readouterr().err
    )
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["models", "recipes"]


def test_another_repository_gets_no_recipe(tmp_path: Path) -> None:
    assert Options("x", repository=tmp_path).recipe_path is None
    assert Options("x").recipe_path == ROOT / "tools" / "recipes" / "x.py"


def recipe_of(*flags: str) -> Imported:
    """The recipe that a command line describes."""
    return new._recipe(new._parser().parse_args(["x", *flags]))


def test_paths_within_the_repository_are_kept_relative() -> None:
    recipe = recipe_of(*module("INSTANCE"))
    assert recipe.module == "tests/unit/networks.py:INSTANCE" and not recipe.default
    assert recipe_of("--torchscript", "/elsewhere/net.pt").torchscript == "/elsewhere/net.pt"


def test_a_network_whose_files_are_in_tools_is_built_by_default() -> None:
    assert recipe_of("--module", str(ROOT / "tools" / "recipes" / "mnist_mlp.py:SimpleNN")).default
