"""Where recipes and studies are found, and how their YAML is read into layers."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from likewise.config.layers import Layer
from likewise.config.problems import RecipeError
from likewise.config.yaml_text import parse

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Shelf:
    """Files of one sort: those that ship with the package, known by name, and custom ones.

    Attributes:
        noun: What such a file is called in messages.
        plural: Several of them.
        folder: Where the shipped ones are.
        least: What every such file must have, for messages.
        example: The first line of one.
    """

    noun: str
    plural: str
    folder: Path
    least: str
    example: str

    def names(self) -> list[str]:
        """Names of the shipped files, sorted."""
        return sorted(file.stem for file in self.folder.glob("*.yaml"))

    def descriptions(self) -> dict[str, str]:
        """Name → description of every shipped one, sorted by name."""
        return {
            name: str(self.read(self.folder / f"{name}.yaml").content.get("description", ""))
            for name in self.names()
        }

    def find(self, name_or_path: str | Path, beside: Path) -> Path:
        """The file that is meant; a relative path starts at the directory `beside`.

        Raises:
            RecipeError: there is none.
        """
        names = self.names()
        if str(name_or_path) in names:
            return self.folder / f"{name_or_path}.yaml"
        file = beside / name_or_path
        if file.is_dir():
            raise RecipeError(f"{file} is a directory, not a {self.noun} file")
        if file.is_file():
            return file
        is_file_name = file.suffix in SUFFIXES
        near = get_close_matches(file.stem if is_file_name else file.name, names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        what = "file" if is_file_name else self.noun
        raise RecipeError(
            f"there is no {what} {str(file)!r}; {hint}shipped {self.plural}: {', '.join(names)}"
        )

    def read(self, file: Path) -> Layer:
        """A file's content.

        Raises:
            RecipeError: it cannot be read, or is not a mapping in valid YAML.
        """
        label = self.label(file)
        try:
            text = file.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise RecipeError(f"{label}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise RecipeError(f"{label}: not a text file in UTF-8") from error
        content = parse(text, label)
        if content is None:
            raise RecipeError(f"{label}: empty; a {self.noun} has at least {self.least}")
        if not isinstance(content, dict):
            raise RecipeError(
                f"{label}: should be a mapping of keys, as in '{self.example}', not {content!r:.60}"
            )
        return Layer(label, content)

    def label(self, file: Path) -> str:
        """Shipped files are named by their name, others by the path that was given."""
        return file.name if file.parent == self.folder else str(file)
