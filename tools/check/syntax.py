"""The rules about config.pbtxt as a text: broken syntax, and fields and values that Triton 2.51 does not have."""

from tools.check.finding import Rule

BASE = 'name: "model"\nbackend: "pytorch"\n'
SYNTAX = Rule("syntax", "The file is not in protobuf's text format", "core", BASE + "input [ {")
UNKNOWN_FIELD = Rule("unknown-field", "A field does not exist", "core", BASE + "max_batchsize: 8")
NEW_FIELD = Rule(
    "field-too-new", "A field exists in newer releases, not in Triton 2.51", "core", BASE + "model_metrics { }"
)
UNKNOWN_VALUE = Rule(
    "unknown-value",
    "An enumeration has no such value",
    "core",
    BASE + 'input { name: "A" data_type: TYPE_FLOAT32 dims: [ 4 ] }',
)
WRONG_TYPE = Rule("wrong-type", "A value is not of its field's type", "core", BASE + 'max_batch_size: "8"')
REPEATED = Rule("repeated-field", "A field that may be set once is set twice", "core", BASE + 'backend: "python"')
ONE_OF = Rule(
    "one-of", "Two fields exclude each other", "core", BASE + "dynamic_batching { }\nsequence_batching { direct { } }"
)
RULES = (SYNTAX, UNKNOWN_FIELD, NEW_FIELD, UNKNOWN_VALUE, WRONG_TYPE, REPEATED, ONE_OF)
