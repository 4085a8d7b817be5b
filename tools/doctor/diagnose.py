"""All rules, applied to what was seen of one server or several."""

from collections.abc import Sequence

from tools.doctor import models, surroundings
from tools.doctor.diagnosis import Diagnosis
from tools.doctor.observation import Seen

# What a counter shows better than the config: the first is not said where one of the others is.
_SAID_BY = {"batching-unused": {"batching", "callers in turn", "step without batches"}}
MOST_CHANGES = 3


def diagnose(servers: Sequence[Seen]) -> list[Diagnosis]:
    """All that is wrong, the worst first, and what should pay most first among equals."""
    found = [*surroundings.unlike(servers)]
    for seen in servers:
        found += [diagnosis for model in seen.models for diagnosis in models.rules(model, seen)]
        found += surroundings.rules(seen)
    said = {(diagnosis.model, diagnosis.finding.bound) for diagnosis in found}
    kept = [one for one in found if not said & {(one.model, by) for by in _SAID_BY.get(one.finding.bound, ())}]
    return sorted(kept, key=lambda diagnosis: diagnosis.rank)


def changes(found: Sequence[Diagnosis]) -> list[Diagnosis]:
    """The changes that should pay most."""
    return [diagnosis for diagnosis in found if diagnosis.is_serious][:MOST_CHANGES]
