"""Folders and files: versions, model files, labels."""

from collections.abc import Iterator

from tools.check.finding import Finding, Place, Rule
from tools.check.served import FILES, LARGEST, Model, version_number

NO_VERSION = Rule("version-missing", "No version folder that the version policy would load", "core")
NO_SUCH_VERSION = Rule("version-not-there", "version_policy names a version that has no folder")
PASSED_OVER = Rule("version-passed-over", "A folder looks like a version but Triton passes over it")
ODD_VERSION = Rule("version-odd", "A folder that Triton takes for a version whose number it is not", "backend")
HUGE_VERSION = Rule("version-huge", "A version number that ends the whole server (2.51 does not catch it)", "core")
NEGATIVE_VERSION = Rule(
    "version-negative", "A version with a negative number; -1 stands for the newest, and requests for that get lost"
)
NO_VERSIONS_KEPT = Rule(
    "policy-keeps-none",
    "version_policy loads no version at all",
    "core",
    'name: "model"\nbackend: "pytorch"\nversion_policy { latest { } }',
)
NO_FILE = Rule("model-file-missing", "A version that is to be loaded lacks its backend's file", "backend")
NO_LABELS = Rule(
    "labels-missing",
    "A label file does not exist, or is a folder (which ends the whole server)",
    "core",
    'name: "model"\nbackend: "pytorch"\n'
    'output { name: "OUTPUT__0" data_type: TYPE_FP32 dims: [ 3 ] label_filename: "classes.txt" }',
)
LABELS_TWICE = Rule(
    "labels-twice",
    "Two outputs with one name have label files",
    "core",
    'name: "model"\nbackend: "pytorch"\n'
    + 'output { name: "OUTPUT__0" data_type: TYPE_FP32 dims: [ 2 ] label_filename: "labels.txt" }\n' * 2,
)
RULES = (
    NO_VERSION,
    NO_SUCH_VERSION,
    PASSED_OVER,
    ODD_VERSION,
    NEGATIVE_VERSION,
    HUGE_VERSION,
    NO_VERSIONS_KEPT,
    NO_FILE,
    NO_LABELS,
    LABELS_TWICE,
)


def check(model: Model) -> Iterator[Finding]:
    """All that is wrong with a model's files."""
    yield from check_folders(model)
    yield from check_policy(model)
    if not model.ensemble:
        yield from check_files(model)
    yield from check_labels(model)


def check_folders(model: Model) -> Iterator[Finding]:
    """Folders whose names are nearly versions."""
    for name in model.folders:
        place = Place(model.folder / name)
        digits = name.lstrip("+-")
        if digits.isdigit() and int(digits) > LARGEST:
            yield HUGE_VERSION.at(
                place, found=f"folder {name}", expected=f"at most {LARGEST}", remedy="give it a smaller number"
            )
        elif name.isdigit() and name[0] == "0" and len(name) > 1:
            remedy = f"rename it to {int(name)}"
            yield PASSED_OVER.at(
                place, found=f"folder {name}", expected="a number without leading zeros", remedy=remedy
            )
        elif name[:1] in "vV" and name[1:].isdigit():
            remedy = f"rename it to {int(name[1:])}"
            yield PASSED_OVER.at(place, found=f"folder {name}", expected="a number alone", remedy=remedy)
        elif (number := version_number(name)) is not None and number < 0:
            remedy = "rename it to a number from 1"
            yield NEGATIVE_VERSION.at(place, found=f"folder {name}", expected="a positive number", remedy=remedy)
        elif number is not None and str(number) != name and str(number) not in model.folders:
            yield ODD_VERSION.at(
                place,
                found=f"folder {name}, which Triton reads as version {number}",
                expected=f"a folder {number}, where the backend looks for the model",
                remedy="rename it, or move it out of the model's folder",
            )


def check_policy(model: Model) -> Iterator[Finding]:
    """The version policy finds something to load."""
    policy = model.config.version_policy
    place = model.place("version_policy")
    for number, version in enumerate(policy.specific.versions):
        if version not in model.versions:
            yield NO_SUCH_VERSION.at(
                model.place("version_policy", 0, "specific", 0, "versions", number),
                found=f"version {version} has no folder",
                expected=f"versions that exist: {listed(model.versions)}",
                remedy="remove it from `versions`, or put the version back",
            )
    if model.wanted:
        return
    if model.versions and policy.WhichOneof("policy_choice") == "latest":
        yield NO_VERSIONS_KEPT.at(
            place,
            found="latest { num_versions: 0 }",
            expected="at least 1",
            remedy="set num_versions: 1, or leave version_policy out",
        )
    elif model.versions:
        yield NO_VERSION.at(
            place,
            found="no version that the policy names exists",
            expected=f"one of {listed(model.versions)}",
            remedy="name a version that exists",
        )
    else:
        yield NO_VERSION.at(
            Place(model.folder),
            found=f"{model.name} has no version folder",
            expected=f"{model.name}/1/" + ("" if model.ensemble else f" with {file_name(model) or 'the model'} in it"),
            remedy="make an empty folder 1" if model.ensemble else "put the model's file into a folder 1",
        )


def listed(versions: tuple[int, ...]) -> str:
    """Versions for a message."""
    return ", ".join(map(str, versions)) or "none"


def file_name(model: Model) -> str:
    """What the backend calls the model's file; empty for a backend that is not known."""
    default = FILES.get(model.config.backend, ("", ""))[0]
    return str(model.config.default_model_filename or default)


def check_files(model: Model) -> Iterator[Finding]:
    """Each version that is to be loaded holds its file; a config may choose files by GPU instead."""
    name = file_name(model)
    if not name or model.config.backend not in FILES or model.config.cc_model_filenames:
        return
    for version in model.wanted:
        folder = model.folder / str(version)
        if folder.is_dir() and not (folder / name).exists():
            there = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
            yield NO_FILE.at(
                Place(folder),
                found=f"{folder.name}/ holds {there}",
                expected=f"{name}, for the {model.config.backend} backend",
                remedy="put it there, or name another file with default_model_filename",
            )


def check_labels(model: Model) -> Iterator[Finding]:
    """Label files exist in the model's folder."""
    for number, output in enumerate(model.config.output):
        if output.label_filename and not (model.folder / output.label_filename).is_file():
            yield NO_LABELS.at(
                model.place("output", number, "label_filename"),
                found=f"{output.label_filename} is no file in {model.name}/",
                expected="a text file with a label on each line",
                remedy="write it, or remove label_filename",
            )
        twins = [other for other in model.config.output[:number] if other.name == output.name and other.label_filename]
        if output.label_filename and twins:
            yield LABELS_TWICE.at(
                model.place("output", number, "label_filename"),
                found=f"labels for output '{output.name}' again",
                expected="one label file for each output",
                remedy="rename or remove one of the outputs",
            )
