"""Train if need be, export to TorchScript, prove and publish: `python -m tools.export mnist_mlp`.

The file is proven against the eager network, config.pbtxt and the recipe's accuracy floor before one rename makes it
the model's next version. If a proof fails, the repository is unchanged.

    python -m tools.export                      # every model that `make build` builds
    python -m tools.export --missing            # only models without a version: what `make build` runs
    python -m tools.export mnist_mlp --keep 3   # publish, then remove all but the three newest versions
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from clients.command import command, command_parser, options_from, positive, print_json, say
from tools import recipes
from tools.cpu_config import write_cpu_config
from tools.export.publication import Manifest, publish
from tools.repository import REPOSITORY, ROOT, keep_versions, refuse_existing, refuse_unwritable, versions
from tools.sign.signatures import signer
from tools.train import settings

if TYPE_CHECKING:
    from tools.datasets import ImageData

SAMPLES = ROOT / "build" / "samples"


def _export(arguments: argparse.Namespace, model: str) -> Manifest:
    from tools.check.rehearsal import rehearse
    from tools.export.preparation import prepare

    repository = arguments.repository
    refuse_unwritable(model, repository)
    if arguments.sign:
        signer(arguments.sign)
    if arguments.version:
        refuse_existing(model, arguments.version, repository)
    fill, data = prepare(model, options_from(arguments, settings.TrainOptions), repository, arguments.version)
    manifest = publish(model, fill, repository, arguments.version, arguments.hold, arguments.sign, rehearse)
    if data:
        _write_samples(model, data, arguments.samples)
    removed = list[int]()
    if arguments.keep:
        rehearse(repository, lambda place: keep_versions(model, arguments.keep, place))
        removed = keep_versions(model, arguments.keep, repository)
    print(_summary(manifest) + (f"; removed {', '.join(map(str, removed))}" if removed else ""))
    return manifest


def _write_samples(model: str, data: "ImageData", folder: Path) -> None:
    # Five test images per class as <model>/<label>/*.png, for people, demos and load tests.
    from tools.export.pipelines import png

    for label, name in enumerate(data.classes):
        place = folder / model / name
        place.mkdir(parents=True, exist_ok=True)
        for index in (data.test_labels == label).nonzero()[0][:5]:
            (place / f"{index:05d}.png").write_bytes(png(data.test_images[index]))


def _summary(manifest: Manifest) -> str:
    evidence = manifest.evidence
    parts = [f"{manifest.model} version {manifest.version}"]
    if evidence.data:
        images = f"{evidence.test_images} images of {evidence.data['title']}"
        parts[0] += f": test accuracy {evidence.accuracy:.2%} on {images}"
    if evidence.parent and evidence.parent_accuracy is not None:
        parts.append(f"{evidence.parent}: {evidence.parent_accuracy:.2%}")
    if said := evidence.language:
        parts[0] += f": perplexity {said['perplexity']:.2f}, {said['precision']}, from {said['source']}"
        parts.append(f"{said['same_answers']} of {said['prompts']} greedy answers are the same in transformers")
    if evidence.classifier:
        parts.append(f"{evidence.classifier}: {evidence.classifier_accuracy:.2%}")
    if len(manifest.files) == 1:
        parts.append(f"{manifest.files[0].bytes:,} bytes")
    if evidence.max_abs_difference is not None:
        parts.append(f"TorchScript and eager differ by at most {evidence.max_abs_difference:.1e}")
    return "; ".join(parts)


def _select_models(arguments: argparse.Namespace) -> list[str]:
    from tools.export.pipelines import in_order

    models = arguments.models or [name for name in recipes.names() if recipes.load(name).default]
    models = in_order(models, arguments.repository)
    if not arguments.missing:
        return models
    built = [model for model in models if versions(model, arguments.repository)]
    for model in built:
        say(f"{model}: has version {versions(model, arguments.repository)[-1]}")
        # config.pbtxt may have changed since, and a server with a read-only repository could not update this.
        write_cpu_config(model, arguments.repository)
    return [model for model in models if model not in built]


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("tools.export", __doc__)
    add = parser.add_argument
    add(
        "models",
        nargs="*",
        metavar="MODEL",
        help=f"of {', '.join(recipes.names())} (default: all except those built only on request)",
    )
    add("--missing", action="store_true", help="skip models that have a version")
    add("--version", type=positive, help="number of the new version (default: the next)")
    add("--keep", type=positive, metavar="K", help="remove all but the K newest versions afterwards")
    add("--hold", action="store_true", help="hide the version from servers until `tools.versions NAME promote`")
    add("--sign", type=Path, metavar="PRIVATE.pem", help="sign the version (tools.sign makes keys)")
    add("--repository", type=Path, default=REPOSITORY, help="model repository")
    add("--samples", type=Path, default=SAMPLES, help="where sample images go")
    settings.add_arguments(parser)
    return parser


@command(interrupted="no version is half published; the same command resumes an unfinished training")
def main() -> int:
    """Export the chosen models and print their manifests."""
    arguments = _parser().parse_args()
    from tools.export.pipelines import outdated

    manifests = [_export(arguments, model) for model in _select_models(arguments)]
    if names := " ".join(outdated(arguments.repository)):
        say(f"notice: {names}: proven with older versions of their members; run `python -m tools.export {names}`")
    print_json({manifest.model: manifest.document() for manifest in manifests})
    return 0


if __name__ == "__main__":
    sys.exit(main())
