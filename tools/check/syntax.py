"""Rules about the text of config.pbtxt: syntax errors, and fields and values that Triton 2.51 does not know."""

from tools.check.finding import Rule

SYNTAX = Rule("syntax", "The file is not valid protobuf text format", "core")
UNKNOWN_FIELD = Rule("unknown-field", "Unknown field", "core")
NEW_FIELD = Rule("field-too-new", "A field of a later release than Triton 2.51", "core")
UNKNOWN_VALUE = Rule("unknown-value", "Unknown value of an enum", "core")
WRONG_TYPE = Rule("wrong-type", "A value does not have its field's type", "core")
REPEATED = Rule("repeated-field", "A singular field is set twice", "core")
ONE_OF = Rule("one-of", "Two mutually exclusive fields are set", "core")
RULES = (SYNTAX, UNKNOWN_FIELD, NEW_FIELD, UNKNOWN_VALUE, WRONG_TYPE, REPEATED, ONE_OF)
