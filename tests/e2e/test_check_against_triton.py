"""tools.check against the real tritonserver: both refuse the same models."""

import shutil
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.differential.examples import write_example
from tests.differential.judges import errors, judge
from tests.differential.mutants import Mutant, mutants
from tests.differential.oracle import COMPILER, DIED, Oracle, oracle
from tests.differential.seeds import of_this_repository, written_by_hand
from tools.check.finding import Rule
from tools.check.rules import RULES
from tools.check.served import LARGEST

pytestmark = pytest.mark.skipif(COMPILER is None, reason="the stubs of backends need a C compiler")
WITH_EXAMPLE = [rule for rule in RULES.values() if rule.example]


@pytest.fixture(scope="module")
def judges() -> Iterator[Oracle]:
    """A server that gives verdicts."""
    with oracle() as running:
        yield running


@pytest.fixture
def empty(judges: Oracle) -> Oracle:
    """The server with an empty repository, except for the model that keeps it alive."""
    for folder in judges.repository.iterdir():
        if folder.name != "keeper":
            shutil.rmtree(folder)
    return judges


@pytest.mark.parametrize("rule", WITH_EXAMPLE, ids=lambda rule: rule.id)
def test_triton_refuses_the_example_of_a_rule_if_the_rule_says_so(rule: Rule, empty: Oracle) -> None:
    write_example(rule, empty.repository)
    assert (empty.verdict("model") is not None) == (rule.refused_by in ("core", "server"))


def test_the_seeds_are_accepted_by_both(judges: Oracle) -> None:
    for seed in written_by_hand() + of_this_repository():
        texts = {name: str(config) for name, config in seed.configs.items()}
        files = {name: ("1/x", "labels.txt") for name in texts}
        verdicts = judge(judges, Mutant(seed.target, texts, files))
        assert verdicts.server is None and verdicts.findings == ()


@pytest.mark.parametrize(
    "name", ["0", "01", "1", "1a", "007", "v1", "configs", "warmup", "initial_state", " 1", "+1", "1.5"]
)
def test_a_folder_is_a_version_for_both_or_for_neither(name: str, empty: Oracle) -> None:
    version = empty.repository / "model" / name
    version.mkdir(parents=True)
    (version.parent / "config.pbtxt").write_text('name: "model" backend: "alpha"')
    assert (empty.verdict("model") is None) == (errors(empty.repository, "model") == ())


BYTES = {
    "a comment in GBK": b'# \xc4\xe3\xba\xc3\nbackend: "alpha"',
    "a comment in Latin-1 at the end": b'backend: "alpha" # caf\xe9',
    "a control character in a comment": b'# \x01\nbackend: "alpha"',
    "a NUL in a comment": b'# \x00\nbackend: "alpha"',
    "a NUL in a string": b'backend: "al\x00pha"',
    "a byte order mark": b'\xef\xbb\xbfbackend: "alpha"',
    "UTF-16": 'backend: "alpha"'.encode("utf-16"),
    "other bytes in a string": b'backend: "alpha" metric_tags { key: "a" value: "\xff" }',
    "an escape for another byte": b'backend: "alpha" metric_tags { key: "a" value: "\\xff" }',
    "an octal escape beyond a byte": b'backend: "alpha" metric_tags { key: "a" value: "\\777" }',
    "an escape for an emoji": b'backend: "alpha" metric_tags { key: "a" value: "\\U0001F600" }',
    "an escape beyond Unicode": b'backend: "alpha" metric_tags { key: "a" value: "\\U00FFFFFF" }',
    "a surrogate": b'backend: "alpha" metric_tags { key: "a" value: "\\ud800" }',
    "a backslash of GBK in a string": b'backend: "alpha" metric_tags { key: "a" value: "\x8f\x5c" }',
    "other bytes outside": b'backend: "alpha" \xff',
    "lines that end with a carriage return": b'name: "model"\rbackend: "alpha"\r',
    "a comment that ends with a carriage return": b'# one\rbackend: "alpha"\r',
}


@pytest.mark.parametrize("content", BYTES.values(), ids=BYTES)
def test_bytes_are_read_by_both_or_by_neither(content: bytes, empty: Oracle) -> None:
    (empty.repository / "model" / "1").mkdir(parents=True)
    (empty.repository / "model" / "config.pbtxt").write_bytes(content)
    assert (empty.verdict("model") is None) == (errors(empty.repository, "model") == ())


INSIDE = """platform: "ensemble"
input { name: "A" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "B" data_type: TYPE_FP32 dims: [ 4 ] }
ensemble_scheduling { step { model_name: "inner" model_version: -1
  input_map { key: "A" value: "A" } output_map { key: "B" value: "B" } } }
"""


@pytest.mark.parametrize(
    ("rule", "text", "folders"),
    [
        ("version-huge", 'backend: "alpha"', ("model/1", f"model/{LARGEST + 1}")),
        ("metric-tag", 'backend: "alpha" metric_tags { key: "a.b" value: "c" }', ("model/1",)),
        (
            "labels-missing",
            'backend: "alpha" output { name: "A" data_type: TYPE_FP32 dims: 1 label_filename: "1" }',
            ("model/1",),
        ),
        (
            "initial-state-dims",
            'backend: "alpha" sequence_batching { state { input_name: "S" output_name: "T" data_type: TYPE_FP32 '
            'dims: -1 initial_state { name: "zeros" data_type: TYPE_FP32 dims: -2 zero_data: true } } }',
            ("model/1",),
        ),
        ("step-model-broken", INSIDE, ("model/1", "inner/1")),
    ],
)
def test_a_model_that_crashes_the_server_is_refused(
    rule: str, text: str, folders: tuple[str, ...], empty: Oracle
) -> None:
    for folder in folders:
        (empty.repository / folder).mkdir(parents=True)
        (empty.repository / folder).with_name("config.pbtxt").write_text(text)
    assert [finding.rule for finding in errors(empty.repository, "model")] == [rule]
    assert empty.verdict("model") == DIED


OUTPUTS = """name: "model" platform: "ensemble" max_batch_size: 8
input { name: "A" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "B" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "C" data_type: TYPE_FP32 dims: [ 4 ] }
ensemble_scheduling {
  step { model_name: "stream" model_version: -1
    input_map { key: "X" value: "A" } output_map { key: "Y" value: "B" } }
  step { model_name: "OTHER" model_version: -1
    input_map { key: "X" value: "A" } output_map { key: "Y" value: "C" } } }
"""


@pytest.mark.parametrize("other", ["member", "stream"])
def test_outputs_of_a_decoupled_model_and_of_another_are_refused(other: str, empty: Oracle) -> None:
    write_example(RULES["ensemble-decoupled"], empty.repository)
    (empty.repository / "model" / "config.pbtxt").write_text(OUTPUTS.replace("OTHER", other))
    assert [finding.rule for finding in errors(empty.repository, "model")] == ["ensemble-decoupled"]
    assert "different decoupled models" in (empty.verdict("model") or "")


@settings(max_examples=300, derandomize=True, deadline=None, database=None, phases=[Phase.generate, Phase.shrink],
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(mutant=mutants(written_by_hand() + of_this_repository()))
def test_both_verdicts_on_mutated_configs_are_equal(judges: Oracle, mutant: Mutant) -> None:
    verdicts = judge(judges, mutant)
    assert verdicts.same, f"server: {verdicts.server}\nchecker: {verdicts.findings}\n{mutant}"
