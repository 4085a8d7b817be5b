"""What the command line of `tools.new` says about a model, besides where its network comes from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clients.errors import ToolError
from tools.repository import RECIPES, REPOSITORY


class OptionError(ToolError):
    """An option is missing, invalid or does not match the network; the message names it and the remedy."""


@dataclass(frozen=True)
class Options:
    """What to create, and where."""

    name: str
    repository: Path = REPOSITORY
    recipes: Path | None = None  # Folder for its recipe; None for tools/recipes, if the repository is this one's.
    example_inputs: str | None = None  # Types and dims, as `tools.new.example_inputs` reads them; None to infer them.
    sizes: Sequence[tuple[int, ...]] = ()  # To prove it with where dims are -1; empty to search for some.
    max_batch_size: int | None = None  # 0 for no batching; None to find out.
    labels: Path | None = None  # File with the names of the classes.
    hardware: str = "auto"  # Where the first call runs: one of `tools.serve.hardware.HARDWARE`.
    ready_timeout: float = 120.0  # Seconds for loading the model, and again for the first call.

    @property
    def recipe_path(self) -> Path | None:
        """Where the recipe goes; None for another repository without a folder for recipes."""
        own = RECIPES if RECIPES.is_dir() and self.repository.resolve() == REPOSITORY else None
        folder = self.recipes or own
        return folder / f"{self.name}.py" if folder else None
