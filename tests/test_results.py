"""What the documentation says was measured is what was measured.

Tables of a study named below are rows of what `likewise compare` wrote, to the letter; numbers in
the README's answer are numbers of `docs/results.md`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
# Studies whose tables are quoted; older ones were written by hand.
QUOTED = ["stickers-2", "stickers-windows"]
NUMBER = re.compile(r"[+−-]?\d+\.\d{2,}")


def sections() -> dict[str, str]:
    """By heading, of docs/results.md."""
    text = (DOCS / "results.md").read_text(encoding="utf-8")
    parts = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    return {part.partition("\n")[0]: part for part in parts}


def rows(text: str) -> set[str]:
    return {line for line in text.splitlines() if line.startswith("| ")}


def numbers(text: str) -> set[str]:
    return {found.lstrip("+").replace("−", "-") for found in NUMBER.findall(text)}


@pytest.mark.parametrize("study", QUOTED)
def test_tables_are_rows_of_the_study(study: str) -> None:
    (section,) = [text for heading, text in sections().items() if f"`{study}`" in heading]
    files = (DOCS / "results" / study).glob("*.md")
    measured = set().union(*(rows(file.read_text(encoding="utf-8")) for file in files))
    assert rows(section) and sorted(rows(section) - measured) == []
    prose = "\n".join(line for line in section.splitlines() if not line.startswith("| "))
    of_study = set().union(*(numbers(row) for row in measured))
    assert sorted(numbers(prose) - of_study - {"2.13"}) == []  # torch's version


def test_the_answer_in_the_readme_is_in_the_results() -> None:
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    (answer,) = re.findall(r"\*\*Is the method why\?\*\*.*?\n\n", readme, re.DOTALL)
    found = numbers("".join(sections().values()))
    known = {number.lstrip("-") for number in found}
    assert numbers(answer)
    assert sorted(number for number in numbers(answer) if number.lstrip("-") not in known) == []
