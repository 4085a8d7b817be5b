"""Rules about the text of config.pbtxt: syntax errors, and fields and values that do not exist."""

from tools.check.finding import Rule

SYNTAX = Rule("syntax", "The file is not valid protobuf text format", "core")
UNKNOWN_FIELD = Rule("unknown-field", "Unknown field", "core")
UNKNOWN_VALUE = Rule("unknown-value", "Unknown value of an enum", "core")
WRONG_TYPE = Rule("wrong-type", "A value does not have its field's type", "core")
REPEATED = Rule("repeated-field", "A singular field is set twice", "core")
ONE_OF = Rule("one-of", "Two mutually exclusive fields are set", "core")
RULES = (SYNTAX, UNKNOWN_FIELD, UNKNOWN_VALUE, WRONG_TYPE, REPEATED, ONE_OF)
