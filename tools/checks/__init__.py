"""What `tools.check` knows about model repositories: one file for each subject of rules, and what they share.

finding.py   a rule, a finding, and where it is
tokens.py    the text format of config.pbtxt, cut into tokens
source.py    a config with the place of each field
served.py    the models of a repository as a server with a given `--model-config-name` sees them
rules.py     all rules in one table
"""
