"""Benchmarks of the server, one file for each; `python -m tools.bench NAME` runs one."""
