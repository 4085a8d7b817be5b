"""tools.check parses config.pbtxt as protobuf does, but continues after a mistake and knows positions."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tests.differential.seeds import of_this_repository, written_by_hand
from tools.check.source import read
from tools.check.tokens import TextSyntaxError, tokens


@pytest.mark.parametrize(
    ("wrong", "rule", "remedy"),
    [
        ("max_batchsize: 8", "unknown-field", "did you mean max_batch_size?"),
        ("dynamic_batcher { }", "unknown-field", "did you mean dynamic_batching?"),
        ("instance_group { kind: KIND_GPUS }", "unknown-value", "did you mean KIND_GPU?"),
        ("output { data_type: FP32 }", "unknown-value", "did you mean TYPE_FP32?"),
        ("output { data_type: type_fp32 }", "unknown-value", "did you mean TYPE_FP32?"),
        ("output { data_type: TYPE_FLOAT }", "unknown-value", "did you mean TYPE_FP32?"),
        ("output { data_type: TYPE_DOUBLE }", "unknown-value", "did you mean TYPE_FP64?"),
        ("output { data_type: long }", "unknown-value", "did you mean TYPE_INT64?"),
        ("output { data_type: TYPE_BYTES }", "unknown-value", "did you mean TYPE_STRING?"),
        ("input { dim: [ 1 ] }", "unknown-field", "did you mean dims?"),
        ("default_model_filename: model", "wrong-type", 'write "model"'),
    ],
)
def test_a_typo_gets_a_suggestion(wrong: str, rule: str, remedy: str) -> None:
    finding = read(Path("config.pbtxt"), 'name: "model"\nbackend: "pytorch"\n' + wrong).findings[0]
    assert (finding.rule, finding.place.line, finding.remedy) == (rule, 3, remedy)


def test_one_run_shows_all_typos() -> None:
    text = 'nam: "model"\nbackend: "pytorch"\nmax_batch_size: many\ninput [ { nme: [ "a", "b" ] type { x: <> } } ]'
    assert [finding.rule for finding in read(Path("config.pbtxt"), text).findings] == [
        "unknown-field",
        "wrong-type",
        "unknown-field",
        "unknown-field",
    ]


@pytest.mark.parametrize(
    ("text", "line", "column", "what"),
    [
        ('name: "model', 1, 7, 'a string that does not end on its line; expected a closing "'),
        ('name: "m"\n  input [ { } ', 2, 15, "the end of the file; expected ',' or ']'"),
        ('name: "m"\ninput { name: "A" ', 2, 19, "the end of the file; expected a field name or '}'"),
        ('name = "m"', 1, 6, "'='; expected ':'"),
        ("max_batch_size: 8name: 1", 1, 18, "'8name'; expected a number or a name"),
        ("input { dims: [ 1, ] }", 1, 20, "']'; expected a value"),
        ("\n\x01", 2, 1, "the character '\\x01'; expected a field name, a value or a comment"),
    ],
)
def test_a_syntax_error_is_reported_where_it_is(text: str, line: int, column: int, what: str) -> None:
    (finding,) = [finding for finding in read(Path("config.pbtxt"), text).findings if finding.rule == "syntax"]
    assert (finding.place.line, finding.place.column) == (line, column)
    assert f"{finding.found}; expected {finding.expected}" == what


def test_configs_are_parsed_as_protobuf_parses_them() -> None:
    for seed in (*written_by_hand(), *of_this_repository()):
        for config in seed.configs.values():
            source = read(Path("config.pbtxt"), text_format.MessageToString(config))
            assert source.findings == () and source.config == config


@pytest.mark.parametrize(
    "text",
    ['name: "a" \'b\' "\\x63\\144\\n"', "max_batch_size: 0x10", "max_batch_size: -010", "max_batch_size: 7;",
     "dynamic_batching: < preserve_ordering: t >, name: 'm'", "input: [ ]", "input { dims: [] dims: 3 dims: [4,5] }",
     "sequence_batching { direct { minimum_slot_utilization: 5e-1f } }", "# a comment\nname: 'm' # another",
     'parameters { key: "a" value { string_value: "1" } } parameters { value { string_value: "2" } key: "a" }'],
)  # fmt: skip
def test_values_may_be_written_as_in_protobuf(text: str) -> None:
    source = read(Path("config.pbtxt"), text)
    assert source.findings == ()
    assert source.config == text_format.Parse(text.replace("-010", "-8").replace("f }", " }"), ModelConfig())


def test_an_unknown_escape_sequence_is_refused() -> None:
    (finding,) = read(Path("config.pbtxt"), 'name: "\\q"').findings
    assert finding.rule == "syntax"
    with pytest.raises(TextSyntaxError, match=r"1:1: a string that does not end"):
        list(tokens("'a\n'"))
