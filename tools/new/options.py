"""What the command line of `tools.new` says about a model, besides where its network comes from."""

from dataclasses import dataclass
from pathlib import Path

from clients.errors import ToolError
from tools.repository import REPOSITORY, ROOT


class OptionError(ToolError):
    """An option is missing, invalid or does not match the network; the message names it and the remedy."""


@dataclass(frozen=True)
class Options:
    """What to create, and where.

    Attributes:
        recipes: folder for its recipe; None for tools/recipes, if the repository is this one's.
        example_inputs: types and dims of the inputs, as `tools.new.example_inputs` reads them; None to infer them.
        max_batch_size: 0 for no batching; None to find out.
        labels: file with the names of the classes.
        hardware: where the first call runs: one of `tools.serve.hardware.HARDWARE`.
        ready_timeout: seconds for loading the model, and again for the first call.
    """

    name: str
    repository: Path = REPOSITORY
    recipes: Path | None = None
    example_inputs: str | None = None
    max_batch_size: int | None = None
    labels: Path | None = None
    hardware: str = "auto"
    ready_timeout: float = 120.0

    @property
    def recipe_path(self) -> Path | None:
        """Where the recipe goes; None for another repository without a folder for recipes."""
        own = ROOT / "tools" / "recipes" if self.repository.resolve() == REPOSITORY else None
        folder = self.recipes or own
        return folder / f"{self.name}.py" if folder else None
