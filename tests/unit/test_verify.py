"""What verification compares and sends, without a server."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from clients.golden import difference
from tests.untrained import MODEL, add_untrained
from tools.repository import MANIFEST_FILE, VERIFICATION_FILE, read_manifest, version_path, versions
from tools.verify import references
from tools.verify.passes import Effort, Pass, Way, assign_rows, common_rows, ways
from tools.verify.references import HeldOut, NoReferenceError, References
from tools.verify.verdict import Budget, conclude, judge
from tools.verify.verification import ChangedFileError, Findings, check_files, recorded_verdict

SCORES = np.array([[0.0, 4.0], [3.0, 1.0]], np.float32)


@pytest.mark.parametrize(
    ("expected", "served", "excess"),
    [
        (np.float32([[1, 2]]), np.float32([[1, 2]]), 0.0),
        (np.float32([[1, 2]]), np.float32([[1, 2.03]]), 1.0),  # 0.01 + 0.01 * 2
        (np.float32([[np.nan, 2]]), np.float32([[np.nan, 2]]), 0.0),
        (np.float32([[1, 2]]), np.float32([[np.nan, 2]]), np.inf),
        (np.float32([[np.inf, 2]]), np.float32([[np.inf, 2]]), 0.0),
        (np.float32([[1, 2]]), np.float32([[1, 2, 3]]), np.inf),
        (np.int64([[4]]), np.int64([[4]]), 0.0),
        (np.int64([[4]]), np.int64([[5]]), np.inf),
        (np.array([[b"cat"]], object), np.array([[b"cat"]], object), 0.0),
        (np.array([[b"cat"]], object), np.array([[b"dog"]], object), np.inf),
        (np.array([[b'{"p": 0.5, "l": "a"}']], object), np.array([[b'{"p": 0.53, "l": "a"}']], object), 2.0),
        (np.array([[b'{"p": 0.5, "l": "a"}']], object), np.array([[b'{"p": 0.5, "l": "b"}']], object), np.inf),
    ],
)
def test_answers_are_compared_by_what_they_are(expected: np.ndarray, served: np.ndarray, excess: float) -> None:
    assert difference({"Y": expected}, {"Y": served}, 0.01).excess[0] == pytest.approx(excess, rel=1e-4)


def test_a_class_may_change_only_where_two_scores_are_as_close_as_the_tolerance() -> None:
    expected = {"P": np.float32([[0.5, 0.5001], [0.2, 0.8]]), "INDEX": np.int64([[1], [1]])}
    served = {"P": np.float32([[0.5001, 0.5], [0.2, 0.8]]), "INDEX": np.int64([[0], [0]])}
    assert (difference(expected, served, 0.001).excess > 1).tolist() == [False, True]


@pytest.mark.parametrize("rows", [7, 360, 4000])
def test_the_whole_set_goes_over_each_protocol_and_some_rows_go_every_way(rows: int) -> None:
    planned = ways(Effort(("http", "grpc"), (1, 5, 64), (1, 32)), max_batch_size=16)
    assert [str(way) for way in planned[:6]] == [
        f"http, batch {size}, {many} at once" for size in (1, 5, 16) for many in (1, 32)
    ]
    sent = assign_rows(planned, rows)
    for protocol in ("http", "grpc"):
        own = [chosen for way, chosen in zip(planned, sent, strict=True) if way.protocol == protocol]
        assert set(np.concatenate(own).tolist()) == set(range(rows))
    for way, chosen in zip(planned, sent, strict=True):
        assert set(common_rows(rows).tolist()) <= set(chosen.tolist())
        assert len(chosen) >= way.size * way.concurrency


def judged(served: np.ndarray, alone: np.ndarray | None = None) -> Findings:
    """The findings over one pass whose two rows were expected to be answered SCORES."""
    held = HeldOut({"X": SCORES}, np.array([1, 0]), ("a", "b"), "two rows")
    rows, findings = np.arange(2), Findings()
    first = Pass(Way("http", 1, 1), rows, {"Y": SCORES if alone is None else alone}, None)
    judge(findings, held, {"Y": SCORES}, first, [Pass(Way("grpc", 2, 8), rows, {"Y": served}, 2.0)], 0.01)
    conclude(findings, 0.01, 0.9, Budget("parent", 1.0, 0.01))
    return findings


def test_answers_as_expected_have_no_failure() -> None:
    findings = judged(SCORES + np.float32(0.001))
    assert not findings.failures and not findings.worst
    assert findings.max_abs == pytest.approx(0.001, rel=0.01) and findings.invariance == findings.max_abs
    assert findings.accuracies["grpc"].served == 1


def test_the_worst_answer_is_shown_with_its_row_its_label_and_both_sides() -> None:
    findings = judged(np.float32([[0.0, 4.0], [3.5, 1.0]]))
    assert findings.failures == [
        "1 of 4 answers differ from the eager network's by more than 0.01 absolute plus 0.01 relative",
        "1 of 4 answers differ from those that the same rows get alone by more than 0.01 absolute plus 0.01 relative",
    ]
    worst = findings.worst[0]
    assert (worst.row, worst.label, worst.way, worst.output) == (1, "a", "grpc, batch 2, 8 at once", "Y")
    assert (worst.expected, worst.served) == ([3.0, 1.0], [3.5, 1.0]) and worst.excess == pytest.approx(12.5)


def test_an_accuracy_below_the_floor_and_the_budget_is_named() -> None:
    failures = judged(np.float32([[0.0, 4.0], [1.0, 3.0]])).failures
    assert "50.00% over grpc is below the recipe's floor of 90.00%" in failures
    assert "50.00% over grpc is below parent's 100.00% less the recipe's budget of 1.00%" in failures


@pytest.fixture
def model(built: Path, tmp_path: Path) -> Path:
    """A repository with the digit classifier alone."""
    shutil.copytree(built / MODEL, tmp_path / "models" / MODEL)
    return tmp_path / "models"


def test_a_file_that_is_not_what_was_published_is_named(model: Path) -> None:
    version = versions(MODEL, model)[-1]
    check_files(MODEL, version, model)
    path = version_path(MODEL, version, model) / "model.pt"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ChangedFileError, match=r"mnist_mlp/\d+/model.pt is not what was published: expected SHA-256"):
        check_files(MODEL, version, model)


def test_a_version_of_another_training_is_compared_with_its_own_file(model: Path) -> None:
    version = add_untrained(model)
    chosen = References(model)
    chosen.run(MODEL)
    assert (chosen.kind(MODEL), chosen.notes) == (references.EAGER, {})
    folder = version_path(MODEL, version, model)
    manifest = read_manifest(MODEL, version, model)
    for change, note in (
        ({"training": {**manifest["training"], "epochs": 1, "seed": 12345}}, "expected 1 epochs"),
        ({"checkpoint": "another.pt"}, "its recipe, config or parent has changed since it was exported"),
    ):
        (folder / MANIFEST_FILE).write_text(json.dumps({**manifest, **change}))
        other = References(model)
        other.run(MODEL)
        assert other.kind(MODEL) == references.FILE and note in other.notes[MODEL]


def test_a_version_that_cannot_be_loaded_here_was_not_tried(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built / "image_decode", tmp_path / "image_decode")
    folder = version_path("image_decode", versions("image_decode", tmp_path)[-1], tmp_path)
    (folder / "step.py").write_text("import no_such_module")
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    for file in manifest["files"]:
        file["sha256"] = hashlib.sha256((folder / file["name"]).read_bytes()).hexdigest()
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))
    with pytest.raises(NoReferenceError, match="step.py .*no_such_module") as caught:
        References(tmp_path).run("image_decode")
    # Export answers "no" to such a file; a verification did not take place.
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("passed", [True, False])
def test_a_verdict_that_an_earlier_version_recorded_is_read(model: Path, passed: bool) -> None:
    version = versions(MODEL, model)[-1]
    path = version_path(MODEL, version, model) / VERIFICATION_FILE
    path.unlink(missing_ok=True)
    assert recorded_verdict(MODEL, version, model) is None
    path.write_text(json.dumps({"at": "2025-01-01T00:00:00+00:00", "sha256": {}, "passed": passed, "model": MODEL}))
    assert recorded_verdict(MODEL, version, model) is passed
