"""Language models: where weights come from, the two forms in which they are published, and the proof that they agree.

One folder holds both: a Hugging Face folder, which vLLM reads, and the same network for OpenVINO, which the embedded
server runs.
"""

from clients.errors import ToolError


class LanguageError(ToolError):
    """Weights cannot be had, read, converted or trusted; the message names them and the remedy."""
