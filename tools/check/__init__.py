"""What `tools.check` knows about model repositories: one file for each subject of rules, and what they share.

- finding.py: a rule, a finding, and where it is.
- tokens.py, values.py, syntax.py, reader.py, source.py: a config.pbtxt as protobuf reads it, and where each field is.
- served.py: the models of a repository as a server with a given `--model-config-name` sees them.
- rules.py: all rules in one table, and the order in which a repository is checked.
- archive.py: what a TorchScript file says of itself, without torch.
- suppressions.py, fixes.py, report.py, page.py: what becomes of findings.

A new rule is a `Rule` with an example in its subject's file, and a function there that yields its findings; the tests
hold the example against the checker and against a real tritonserver, and docs/check-rules.md is written from the table.
"""
