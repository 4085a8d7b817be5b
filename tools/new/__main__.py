"""Bring your own model: from a module, a TorchScript file or a torchvision model to a served folder, in one command.

The network is tried (does it take batches? what does it return?), config.pbtxt and the recipe are written, the
TorchScript file is proven, and the real server loads it and answers a call. Only then does anything appear in the
repository.

    python -m tools.new towers --module towers.py:Towers --example-inputs 'user:INT64[1],item:FP32[6]'
    python -m tools.new resnet --torchvision resnet50 --checkpoint resnet50.pth --labels imagenet.txt
    python -m tools.new scorer --torchscript scorer.pt --example-inputs 'FP32[12]' --max-batch-size 128
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clients.command import command, command_parser, options_from, positive_float, print_json
from clients.contract import TensorSpec
from tools.new.creation import NewModel, create
from tools.new.options import OptionError, Options
from tools.recipes import Imported
from tools.repository import RECIPES, REPOSITORY, ROOT
from tools.serve.hardware import HARDWARE


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("tools.new", __doc__)
    add = parser.add_argument
    add("name", metavar="NAME", help="of the new model: letters, digits and _")
    _add_network_arguments(parser)
    text = "types and dims without the batch, e.g. 'user:INT64[1]=0..999,item:FP32[6]'; -1 for a variable dim, [] for "
    text += "none; =LEAST..LARGEST for the values that callers send (default: normal floats, integers of 0 and 1)"
    add("--example-inputs", metavar="INPUTS", help=text)
    add("--examples", nargs="+", default=[], metavar="FILE", help="examples of its inputs: .npz, .json or images")
    text = "sizes to prove it with where a dim is -1, e.g. 64 96, or 64x96 for two dims (default: what works)"
    add("--sizes", nargs="+", type=_sizes, default=[], metavar="N", help=text)
    text = "0 for no batching (default: 64, or 8 for large inputs, if the network takes batches)"
    add("--max-batch-size", type=_batch_size, metavar="N", help=text)
    add("--labels", type=Path, metavar="FILE", help="names of the classes, one per line")
    add("--tolerance", type=float, default=Imported.tolerance, help="of TorchScript against eager")
    add("--repository", type=Path, default=REPOSITORY, help="where the model goes")
    text = f"where the recipe goes (default: {RECIPES}, if it exists; nowhere for another --repository)"
    add("--recipes", type=Path, metavar="DIR", help=text)
    add("--hardware", choices=HARDWARE, default=Options.hardware, help="for the first call")
    text = "seconds for loading, and again for the first call"
    add("--ready-timeout", type=positive_float, default=Options.ready_timeout, metavar="S", help=text)
    add("--json", action="store_true", help="print only the last line, which is JSON, on stdout")
    return parser


def _add_network_arguments(parser: argparse.ArgumentParser) -> None:
    add, source = parser.add_argument, parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--module", metavar="PATH.py:CLASS", help="a torch.nn.Module, or a function that returns one")
    source.add_argument("--torchscript", metavar="FILE", help="a TorchScript file")
    source.add_argument("--torchvision", metavar="MODEL", help="the name of one of torchvision's models")
    add("--arguments", type=_json_object, default={}, metavar="JSON", help="keyword arguments for CLASS or MODEL")
    text = "a state dict, or one of several in FILE (default: the constructor's weights)"
    add("--checkpoint", metavar="FILE[#KEY]", help=text)
    text = "torchvision's pretrained weights, with labels, e.g. DEFAULT; downloaded unless --checkpoint has them"
    add("--weights", metavar="NAME", help=text)


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error} in {text}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f'expected a JSON object such as {{"classes": 10}}, got {text}')
    return value


def _batch_size(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got '{text}'")
    return int(text)


def _sizes(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", text):
        raise argparse.ArgumentTypeError(f"expected a size such as 64, or 64x96 for two dims of -1, got '{text}'")
    return tuple(map(int, text.split("x")))


def _recipe(arguments: argparse.Namespace) -> Imported:
    if arguments.weights and not arguments.torchvision:
        raise OptionError("--weights are torchvision's; give a --checkpoint with --module")
    if arguments.torchscript and (arguments.checkpoint or arguments.arguments):
        raise OptionError("a --torchscript file has its weights and arguments in it; omit --checkpoint, --arguments")
    file, separator, name = (arguments.module or "").rpartition(":")
    module, torchscript, checkpoint = map(_portable, (file, arguments.torchscript, arguments.checkpoint))
    examples = tuple(filter(None, map(_portable, arguments.examples)))
    return Imported(
        module=f"{module}:{name}" if separator else arguments.module,
        torchscript=torchscript,
        torchvision=arguments.torchvision,
        arguments=arguments.arguments,
        checkpoint=checkpoint,
        weights=arguments.weights,
        examples=examples,
        tolerance=arguments.tolerance,
        # Only tools/ is in the container image that builds models, and in every checkout.
        default=all(path.startswith("tools/") for path in (module, torchscript, checkpoint, *examples) if path),
    )


def _portable(text: str | None) -> str | None:
    # Relative to this repository's root if it lies there, else absolute.
    if not text:
        return None
    path = Path(text).expanduser().resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _summary(created: NewModel) -> str:
    def listed(specs: Sequence[TensorSpec]) -> str:
        return ", ".join(f"{spec.name} {spec.datatype} {list(spec.dims)}" for spec in specs)

    name, recipe, design = created.options.name, created.options.recipe_path, created.design
    batches = f"batches of up to {design.max_batch_size}" if design.max_batch_size else "without batches"
    lines = [
        f"{name}: {created.evidence.method}, proven, loaded and called in {created.seconds} s, {batches}",
        f"  inputs   {listed(design.inputs)}",
        f"  outputs  {listed(design.outputs)}",
        f"  folder   {created.folder}",
    ]
    if recipe:
        lines += [f"  recipe   {recipe}", f"  again    python -m tools.export {name}"]
    return "\n".join(lines)


@command(interrupted="nothing was published")
def main() -> int:
    """Create the model and print what was made."""
    arguments = _parser().parse_args()
    created = create(options_from(arguments, Options), _recipe(arguments))
    if not arguments.json:
        print(_summary(created))
    print_json(created.document())
    return 0


if __name__ == "__main__":
    sys.exit(main())
