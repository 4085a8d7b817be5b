"""The page about all rules, docs/check-rules.md: `python -m tools.check --rules > docs/check-rules.md`."""

from collections.abc import Mapping, Sequence

from tools.check.finding import Rule

HEAD = """# What `python -m tools.check` finds

Written by `python -m tools.check --rules`; a test compares the two. Rules are checked without a server, under each
config name that some model has in `configs/`, as Triton 2.51 sees configs with auto-complete turned off.

- **core**: Triton itself refuses to load the model. **backend**: the backend does. Both are errors.
- The rest loads, and is a warning: people regret it later.

`# triton-check: ignore=RULE` on the line, or on a line of its own above it, suppresses a finding; several rules are
separated by commas.
"""
NAMES = {"core": "core", "backend": "backend", "server": "a server without it", "nobody": "–"}


def page(subjects: Mapping[str, Sequence[Rule]]) -> str:
    """The page in Markdown."""
    return "\n".join([HEAD, *(section(title, rules) for title, rules in subjects.items())])


def section(title: str, rules: Sequence[Rule]) -> str:
    """A table of one subject's rules, and the configs that break them."""
    rows = [f"| `{rule.id}` | {rule.severity} | {NAMES[rule.refused_by]} | {rule.summary} |" for rule in rules]
    table = [f"## {title}\n", "| rule | severity | refused by | what is wrong |", "|---|---|---|---|", *rows, ""]
    examples = [example(rule) for rule in rules if rule.example]
    return "\n".join(
        table + (["<details><summary>Examples</summary>\n", *examples, "</details>\n"] if examples else [])
    )


def example(rule: Rule) -> str:
    """A config that breaks a rule."""
    return f"`{rule.id}`\n\n```\n{rule.example.rstrip()}\n```\n"
