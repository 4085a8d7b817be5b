"""Folders and files: versions, model files and labels."""

from collections.abc import Iterator

from tools.check.finding import Finding, Place, Rule
from tools.check.served import FILES, LARGEST, Model, version_number

NO_VERSION = Rule("version-missing", "The version policy would load none of the version folders", "core")
NO_SUCH_VERSION = Rule("version-not-there", "version_policy names a version that has no folder")
PASSED_OVER = Rule("version-passed-over", "A folder looks like a version, but Triton ignores it")
ODD_VERSION = Rule("version-odd", "A folder that Triton reads as a version number that is not its name", "backend")
HUGE_VERSION = Rule(
    "version-huge", "A version number so large that it crashes the server (2.51 does not catch it)", "core"
)
NEGATIVE_VERSION = Rule(
    "version-negative", "A negative version number; -1 stands for the newest version, so requests for it get lost"
)
NO_VERSIONS_KEPT = Rule("policy-keeps-none", "version_policy loads no version at all", "core")
NO_FILE = Rule("model-file-missing", "A version that would be loaded lacks its backend's file", "backend")
NO_LABELS = Rule("labels-missing", "A label file does not exist, or is a folder (which crashes the server)", "core")
LABELS_TWICE = Rule("labels-twice", "Two outputs of the same name have label files", "core")
COMPLETED = Rule("config-completed", "The backend completes the config when it loads the model", level="info")
NOT_COMPLETED = Rule("config-not-completed", "The backend cannot complete the config from the model's file", "backend")
RULES = (
    *(COMPLETED, NOT_COMPLETED),
    *(NO_VERSION, NO_SUCH_VERSION, PASSED_OVER, ODD_VERSION, NEGATIVE_VERSION, HUGE_VERSION, NO_VERSIONS_KEPT),
    *(NO_FILE, NO_LABELS, LABELS_TWICE),
)


def check(model: Model) -> Iterator[Finding]:
    """Yield all findings about a model's files."""
    yield from _check_completion(model)
    yield from _check_folders(model)
    yield from _check_policy(model)
    if not model.ensemble:
        yield from _check_files(model)
    yield from _check_labels(model)


def _check_completion(model: Model) -> Iterator[Finding]:
    completion = model.completion
    if completion and completion.problem:
        yield NOT_COMPLETED.at(
            model.place(),
            found=completion.problem,
            expected="a config that the model's file completes",
            remedy="write inputs and outputs into config.pbtxt, or correct max_batch_size",
        )
    elif completion:
        yield COMPLETED.at(
            model.place(),
            found=f"the {model.config.backend} backend adds {completion.added}",
            expected="this, unless the server has --disable-auto-complete-config",
            remedy="write it into config.pbtxt if it shall not follow from the file",
        )


def _check_folders(model: Model) -> Iterator[Finding]:
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
            yield PASSED_OVER.at(place, found=f"folder {name}", expected="a plain number", remedy=remedy)
        elif (number := version_number(name)) is not None and number < 0:
            remedy = "rename it to a positive number"
            yield NEGATIVE_VERSION.at(place, found=f"folder {name}", expected="a positive number", remedy=remedy)
        elif number is not None and str(number) != name and str(number) not in model.folders:
            yield ODD_VERSION.at(
                place,
                found=f"folder {name}, which Triton reads as version {number}",
                expected=f"folder {number}, where the backend looks for the model",
                remedy="rename it, or move it out of the model's folder",
            )


def _check_policy(model: Model) -> Iterator[Finding]:
    policy = model.config.version_policy
    place = model.place("version_policy")
    for number, version in enumerate(policy.specific.versions):
        if version not in model.versions:
            yield NO_SUCH_VERSION.at(
                model.place("version_policy", "specific", "versions", number),
                found=f"version {version} has no folder",
                expected=f"existing versions: {_listed(model.versions)}",
                remedy="remove it from `versions`, or restore the version",
            )
    if model.wanted:
        return
    if model.versions and policy.WhichOneof("policy_choice") == "latest":
        yield NO_VERSIONS_KEPT.at(
            place,
            found="latest { num_versions: 0 }",
            expected="at least 1",
            remedy="set num_versions: 1, or remove version_policy",
        )
    elif model.versions:
        yield NO_VERSION.at(
            place,
            found="none of the versions that the policy names exists",
            expected=f"one of {_listed(model.versions)}",
            remedy="name a version that exists",
        )
    else:
        yield NO_VERSION.at(
            Place(model.folder),
            found=f"{model.name} has no version folder",
            expected=f"{model.name}/1/" + ("" if model.ensemble else f" containing {file_name(model) or 'the model'}"),
            remedy="create an empty folder 1" if model.ensemble else "put the model's file in a folder 1",
        )


def _listed(versions: tuple[int, ...]) -> str:
    return ", ".join(map(str, versions)) or "none"


def file_name(model: Model) -> str:
    """The name of the model's file, by its config or its backend; empty for an unknown backend."""
    default = FILES.get(model.config.backend, ("", ""))[0]
    return str(model.config.default_model_filename or default)


def _check_files(model: Model) -> Iterator[Finding]:
    name = file_name(model)
    # cc_model_filenames chooses a file by the GPU.
    if not name or model.config.backend not in FILES or model.config.cc_model_filenames:
        return
    for version in model.wanted:
        folder = model.folder / str(version)
        if folder.is_dir() and not (folder / name).exists():
            contents = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
            yield NO_FILE.at(
                Place(folder),
                found=f"{folder.name}/ contains {contents}",
                expected=f"{name}, for the {model.config.backend} backend",
                remedy="add it, or name another file with default_model_filename",
            )


def _check_labels(model: Model) -> Iterator[Finding]:
    for number, output in enumerate(model.config.output):
        if output.label_filename and not (model.folder / output.label_filename).is_file():
            yield NO_LABELS.at(
                model.place("output", number, "label_filename"),
                found=f"{output.label_filename} is not a file in {model.name}/",
                expected="a text file with one label per line",
                remedy="create it, or remove label_filename",
            )
        twins = [other for other in model.config.output[:number] if other.name == output.name and other.label_filename]
        if output.label_filename and twins:
            yield LABELS_TWICE.at(
                model.place("output", number, "label_filename"),
                found=f"a second label file for output '{output.name}'",
                expected="one label file per output",
                remedy="rename or remove one of the outputs",
            )
