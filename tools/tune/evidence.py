"""What a tuning leaves behind: `configs/<hardware>.pbtxt`, whose comment says why it is as it is."""

import textwrap
from pathlib import Path

from google.protobuf import text_format

from clients.output import write_atomically
from tools.repository import config_path
from tools.tune.candidates import Candidate, applied
from tools.tune.served import base_of
from tools.tune.trials import Document

WIDTH = 116


def write_config(model: str, hardware: str, choice: Candidate, gpu: bool, result: Document, repository: Path) -> Path:
    """Write a choice beside the committed config, which stays as it is.

    Raises:
        OSError: the repository cannot be written.
    """
    path = config_path(model, hardware, repository)
    path.parent.mkdir(exist_ok=True)
    body = text_format.MessageToString(applied(choice, base_of(model, repository, gpu)))
    write_atomically(path, f"{comment(result)}\n{body}")
    return path


def comment(result: Document) -> str:
    """The evidence, as comment lines."""
    best, base = result["best"], result["committed"]
    lines = [
        f"Tuned by tools.tune for {result['machine']}; config.pbtxt is the contract, and this file is not updated when "
        "that one changes: tune again, or remove it.",
        f"Objective: {result['objective']} under {result['slo']}, {result['protocol']}, Poisson arrivals, "
        f"client batch {result['client_batch']}"
        + (f", at {result['rate']:g} requests per second." if result["rate"] else "."),
        f"Measured: {best['shown']} ({span(best)}); as committed: {base['shown']} ({span(base)}). "
        f"Predicted by the twin: {best['predicted_shown']}.",
        f"{result['simulated']:,} choices simulated, {len(result['measured'])} measured, {result['seconds']:.0f} s in "
        f"all, model version {result['version']}, Triton {result['triton']}.",
    ]
    smaller = result["best"]["candidate"]["max_batch_size"] < result["committed"]["candidate"]["max_batch_size"]
    if smaller:
        lines.append("Requests of more inferences than max_batch_size are refused, which config.pbtxt would take.")
    return "\n".join(f"# {line}" for text in lines for line in textwrap.wrap(text, WIDTH))


def span(one: Document) -> str:
    """The interval of a measured choice, in words."""
    if one["low"] is None:
        return f"{one['trials']} trials"
    return f"90 % interval {one['low']:,.0f} to {one['high']:,.0f}, {one['trials']} trials"
