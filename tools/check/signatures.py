"""`--public-key`: each version that a server would load is what the holder of the private key signed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tools.check.finding import Finding, Place, Rule
from tools.repository import RepositoryError, model_names

UNSIGNED = Rule("signature-missing", "A version is not signed (--public-key)", level="error")
INVALID = Rule("signature-invalid", "A signature is damaged, or of another key (--public-key)", level="error")
ALTERED = Rule(
    "signature-altered",
    "A file was changed, added or removed since its version was signed (--public-key)",
    level="error",
)
CACHED = Rule(
    "signature-cache", "Python's cache lies beside signed sources, and is read in place of them (--public-key)"
)
RULES = (UNSIGNED, INVALID, ALTERED, CACHED)
BY_FLAW = {"missing": UNSIGNED, "invalid": INVALID, "altered": ALTERED, "cached": CACHED}
EXPECTED = "what the holder of the private key signed"


def check(repository: Path, public_key: Path) -> Iterator[Finding]:
    """All findings about signatures; no comment suppresses one.

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
            continue  # That its config cannot be read is said anyway.
        for each in (one for version in served for one in breaches(model, version, public_key, repository)):
            found = f"{each.file.name} {each.found}"
            finding = BY_FLAW[each.flaw].at(Place(each.file), found=found, expected=EXPECTED, remedy=each.remedy)
            yield replace(finding, model=model)
