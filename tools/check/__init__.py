"""Static checks of a model repository: one file per subject of rules, and what they share.

- finding.py: rules, findings and their places.
- tokens.py, values.py, syntax.py, reader.py, source.py: config.pbtxt as protobuf parses it, with field positions.
- served.py: the models of a repository as a server with a given `--model-config-name` sees them.
- rules.py: the table of all rules, and the order in which a repository is checked.
- archive.py: what a TorchScript file declares, read without torch.
- suppressions.py, fixes.py, report.py, page.py: what happens to findings.

To add a rule, declare a `Rule` in its subject's file, write a function there that yields its findings, and add a config
that breaks it as examples/<rule>.pbtxt. The tests run every example through the checker and a real tritonserver, and
`python -m tools.check --rules` writes docs/check-rules.md from the table.
"""
