"""Train if need be, export to TorchScript, prove and publish: `python -m tools.export mnist_mlp`.

The file is proven against the eager network, against config.pbtxt and against the recipe's accuracy floor before
one rename makes it the model's next version. A failed proof leaves the repository as it was.

    python -m tools.export                      # every model that has a recipe
    python -m tools.export --missing            # only models without a version: what `make build` does
    python -m tools.export mnist_mlp --keep 3   # publish, then remove all but the three newest versions
"""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

from clients.command import command, command_parser, positive, print_json, say
from tools import recipes
from tools.cpu_config import write_cpu_config
from tools.datasets import ImageData
from tools.export import contents, imported, pipelines
from tools.export.publication import Fill, publish
from tools.recipes import AnyRecipe, Imported, Pipeline, Recipe, Step
from tools.repository import REPOSITORY, ROOT, keep_versions, refuse_existing, refuse_unwritable, versions
from tools.sign.signatures import signer
from tools.train import settings, training

SAMPLES = ROOT / "build" / "samples"
SAMPLES_PER_CLASS = 5


def write_samples(model: str, data: ImageData, folder: Path = SAMPLES) -> Path:
    """A few test images per class as PNG files under <model>/<label>/, for people, demos and load tests."""
    for label, name in enumerate(data.classes):
        place = folder / model / name
        place.mkdir(parents=True, exist_ok=True)
        for index in (data.test_labels == label).nonzero()[0][:SAMPLES_PER_CLASS]:
            (place / f"{index:05d}.png").write_bytes(pipelines.png(data.test_images[index]))
    return folder / model


def _prepare(arguments: argparse.Namespace, model: str, recipe: AnyRecipe) -> tuple[ImageData | None, Fill]:
    """What a model is tested on, if it is, and how its folder is filled; a training happens here."""
    repository = arguments.repository
    if isinstance(recipe, Recipe):
        trained = training.train_model(model, settings.options_from(arguments), repository)
        return trained.data, partial(contents.fill_trained, trained, repository)
    if isinstance(recipe, Pipeline):
        data = pipelines.data_of(model, repository)
        return data, partial(contents.fill_pipeline, model, recipe, data, repository)
    if isinstance(recipe, Imported):
        return None, partial(imported.fill, model, recipe, repository)
    if isinstance(recipe, Step):
        return None, partial(contents.fill_step, model, recipe, repository)
    return None, partial(contents.fill_python_step, model, recipe, repository)


def _export(arguments: argparse.Namespace, model: str) -> dict[str, Any]:
    """Make and publish a model, and remove old versions, as the command line says."""
    recipe, repository = recipes.load(model), arguments.repository
    refuse_unwritable(model, repository)
    if arguments.sign:
        signer(arguments.sign)
    if arguments.version:
        refuse_existing(model, arguments.version, repository)
    data, fill = _prepare(arguments, model, recipe)
    manifest = publish(model, fill, repository, arguments.version, arguments.hold, arguments.sign)
    if data:
        write_samples(model, data, arguments.samples)
    removed = keep_versions(model, arguments.keep, repository) if arguments.keep else []
    print(_summary(manifest) + (f"; removed {', '.join(map(str, removed))}" if removed else ""))
    return manifest


def _summary(manifest: dict[str, Any]) -> str:
    """A manifest in one line."""
    parts = [f"{manifest['model']} version {manifest['version']}"]
    if "accuracy" in manifest:
        images = f"{manifest['test_images']} images of {manifest['data']['title']}"
        parts[0] += f": test accuracy {manifest['accuracy']:.2%} of {images}"
    for other in ("parent", "classifier"):
        if other in manifest:
            parts.append(f"{manifest[other]}: {manifest[f'{other}_accuracy']:.2%}")
    if "file" in manifest:
        parts.append(f"{manifest['file']['bytes']:,} bytes")
    if "max_abs_difference" in manifest:
        parts.append(f"TorchScript and eager differ by at most {manifest['max_abs_difference']:.1e}")
    return "; ".join(parts)


def _chosen_models(arguments: argparse.Namespace) -> list[str]:
    """The models to export, without those that have a version where only missing ones are wanted.

    Those that have one get their CPU config brought up to date: config.pbtxt may have changed since, and a server
    whose repository is mounted read-only could not do it.
    """
    models = arguments.models or [name for name in recipes.names() if recipes.load(name).default]
    models = pipelines.in_order(models, arguments.repository)
    if not arguments.missing:
        return list(models)
    built = [model for model in models if versions(model, arguments.repository)]
    for model in built:
        print(f"{model}: version {versions(model, arguments.repository)[-1]} is there", file=sys.stderr)
        write_cpu_config(model, arguments.repository)
    return [model for model in models if model not in built]


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("tools.export", __doc__)
    parser.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        help=f"of {', '.join(recipes.names())} (default: all that are not made by name only)",
    )
    parser.add_argument("--missing", action="store_true", help="skip models that have a version")
    parser.add_argument("--version", type=positive, help="number of the new version (default: the next)")
    parser.add_argument("--keep", type=positive, metavar="K", help="remove all but the K newest versions afterwards")
    parser.add_argument(
        "--hold",
        action="store_true",
        help="keep the version from servers until `tools.versions NAME promote` lets it in",
    )
    parser.add_argument("--sign", type=Path, metavar="PRIVATE.pem", help="sign the version (tools.sign makes keys)")
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help="(default: %(default)s)")
    parser.add_argument("--samples", type=Path, default=SAMPLES, help="where sample images go (default: %(default)s)")
    settings.add_arguments(parser)
    return parser


@command(interrupted="nothing was published; the same command resumes where it stopped")
def main() -> int:
    """Export the chosen models and print their manifests."""
    arguments = _parser().parse_args()
    manifests = [_export(arguments, model) for model in _chosen_models(arguments)]
    if outdated := pipelines.outdated(arguments.repository):
        names = " ".join(outdated)
        say(f"notice: {names}: proven with older versions of their members; run `python -m tools.export {names}`")
    print_json({manifest["model"]: manifest for manifest in manifests})
    return 0


if __name__ == "__main__":
    sys.exit(main())
