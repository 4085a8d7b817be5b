"""`--public-key`: every version that a server would load is what the owner of the private key signed."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

from tools.check.finding import Finding, Place, Rule
from tools.repository import RepositoryError, model_names

UNSIGNED = Rule("signature-missing", "A version is not signed (--public-key)", level="error")
INVALID = Rule("signature-invalid", "A signature is damaged, or made with another key (--public-key)", level="error")
ALTERED = Rule(
    "signature-altered",
    "A file was changed, added or removed since its version was signed (--public-key)",
    level="error",
)
CACHED = Rule(
    "signature-cache", "A Python cache lies beside signed sources, and Python would run it instead (--public-key)"
)
RULES = (UNSIGNED, INVALID, ALTERED, CACHED)
_BY_FLAW = {"missing": UNSIGNED, "invalid": INVALID, "altered": ALTERED, "cached": CACHED}
_EXPECTED = "what the owner of the private key signed"


def check(repository: Path, public_key: Path) -> Iterator[Finding]:
    """Yield all findings about signatures; comments cannot suppress them.

    Raises:
        SignatureError: the key cannot be used.
    """
    from tools.sign.coverage import served_versions
    from tools.sign.signatures import breaches, verifier

    verifier(public_key)
    for model in model_names(repository):
        try:
            served = served_versions(model, repository)
        except RepositoryError:
            continue  # The rules about configs report it.
        for breach in chain(*(breaches(model, version, public_key, repository) for version in served)):
            found, rule = f"{breach.file.name} {breach.found}", _BY_FLAW[breach.flaw]
            finding = rule.at(Place(breach.file), found=found, expected=_EXPECTED, remedy=breach.remedy)
            yield replace(finding, model=model)
