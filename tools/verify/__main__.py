"""Verify that a server answers as the trained networks do: `python -m tools.verify`.

Sends a model's whole held-out set through a running server, over HTTP and gRPC, in several batch sizes and with
several requests at once, and compares every answer with the eager PyTorch network's: how far apart they are, whether
accuracy is lost, and whether a row gets the same answer alone and among others. A pipeline is compared with its
members run one after the other; a step that learns nothing is sent random inputs.

    python -m tools.verify                                    # all models that have a version, on a server of its own
    python -m tools.verify mnist_mlp --url 127.0.0.1:8000     # as a running server serves it (gRPC: 127.0.0.1:8001)
    python -m tools.verify cifar10_cnn --concurrency 1 64 --batch-sizes 1 16 --limit 500

With a server of its own and the whole set the result becomes verification.json beside the version's manifest. Exit
code 0: all verified; 1: a version failed, its worst answers are shown; 2: it could not be tried.
"""

import sys
from pathlib import Path

from clients.command import command, command_parser, print_json, say
from clients.installation import ROOT
from clients.output import try_folder
from tools import recipes
from tools.repository import RECIPES, RepositoryError, versions
from tools.verify.options import add_verifier_arguments, verifier_from
from tools.verify.report import text, write


def _choose(models: list[str], repository: Path) -> list[str]:
    # The models to verify, members before ensembles.
    from tools.export import pipelines  # It imports torch, which `--help` can do without.

    for model in models:
        if _writes_texts(model):
            raise recipes.RecipeError(
                f"{model} is a language model, which export compares with its network; ask clients.generate"
            )
        pipelines.newest(model, repository)
    chosen = models or [name for name in recipes.names() if versions(name, repository) and not _writes_texts(name)]
    if not chosen:
        made = "`python -m tools.export NAME` makes a version, `python -m tools.new` writes a recipe"
        raise RepositoryError(f"no model in {repository} has a version and a recipe in {RECIPES}; {made}")
    return pipelines.in_order(chosen, repository)


def _writes_texts(model: str) -> bool:
    return isinstance(recipes.load(model), recipes.LanguageModel)


@command(interrupted="finished verifications are recorded")
def main() -> int:
    """Verify models and print a table of what was found."""
    parser = command_parser("tools.verify", __doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="(default: all that have a version and a recipe)")
    add_verifier_arguments(parser)
    parser.add_argument("--report", type=Path, default=ROOT / "build" / "verify", help="folder of the page")
    arguments = parser.parse_args()
    try_folder(arguments.report, "--report")
    models, verifications = _choose(arguments.models, arguments.repository), []
    with verifier_from(arguments, models) as verifier:
        for model in models:
            verification = verifier.verify(model)
            for note in verification.notes:
                say(f"notice: {note}")
            verdict = "verified" if verification.passed else "FAILED"
            say(f"{model} version {verification.version}: {verdict} ({verification.seconds:.1f} s)")
            verifications.append(verification)
    print(text(verifications))
    say(f"Page: {write(verifications, arguments.report)}")
    print_json({verification.model: verification.document() for verification in verifications})
    return int(not all(verification.passed for verification in verifications))


if __name__ == "__main__":
    sys.exit(main())
