"""Networks of the kinds that people bring, each through `tools.new` in one command: `python -m tests.field`."""
