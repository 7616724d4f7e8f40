"""The table of docs/models.md: what the tests of every policy found, never written by hand.

Tests call ``ledger.record(family, line, value)`` at their end. When a session has recorded every
cell that a plain installation can fill, and nothing failed, the table in the document is compared
with what was found. A number there is a bound, which has to hold; other cells have to be equal.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from policies.families import families

DOCUMENT = Path(__file__).parents[2] / "docs" / "models.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
REWRITE = "LIKEWISE_WRITE_MODELS_TABLE"  # set to anything: what a session found is written
COMMAND = f"{REWRITE}=1 python -m pytest tests/policies -m ''"
YES = "✔"
UNKNOWN = "not run"
SMALLEST = 1e-6  # rounding below this differs between machines, and says nothing


@dataclass(frozen=True)
class Line:
    """A capability.

    Attributes:
        key: What tests call it.
        title: First cell of its line.
        always: Whether a run without slow tests and without extras fills its cells.
    """

    key: str
    title: str
    always: bool = True


LINES = (
    Line("ode", "ODE sampling is the stock pipeline's `__call__`"),
    Line("ratio", "replay: ratio ≡ 1"),
    Line("step", "a GRPO step changes only the adapter"),
    Line("nft", "an NFT step changes only the adapter"),
    Line("references", "references per task"),
    Line("mixed", "mixed batch = one by one"),
    Line("blank", "planned shapes are those of encoding"),
    Line("diffusers", "export to diffusers, and back"),
    Line("comfyui", "export to ComfyUI, and back"),
    Line("kohya", "export to kohya, and back"),
    Line("resume", "1 + 1 resumed iterations = 2"),
    Line("bfloat16", "bfloat16, away from float32"),
    Line("float16", "float16, away from float32"),
    Line("checkpointing", "gradient checkpointing"),
    Line("compile", "torch.compile per block", always=False),
    Line("attention", "attention backends"),
    Line("bitsandbytes-8bit", "8 bit, bitsandbytes", always=False),
    Line("bitsandbytes-4bit", "4 bit, bitsandbytes", always=False),
    Line("torchao-int8", "8 bit, torchao, away from float32", always=False),
    Line("cache", "embeddings from disk, without encoders"),
    Line("offload", "encoders and VAE asleep between uses"),
)


@dataclass
class Ledger:
    """Cells by (family's name, line's key), as found in this session."""

    cells: dict[tuple[str, str], str | float] = field(default_factory=dict)

    def record(self, family: str, line: str, value: str | float) -> None:
        """A passed test's finding.

        Args:
            value: A word, or a difference: what is in the table then has to bound it.
        """
        assert line in {one.key for one in LINES}, f"the table has no line {line!r}"
        assert isinstance(value, str) or math.isfinite(value)
        self.cells[family, line] = value

    def problem(self) -> str | None:
        """What has to be said at the end of a session in which nothing failed; None: nothing."""
        if REWRITE in os.environ:
            self._write()
            return None
        if not self._complete([line for line in LINES if line.always]):
            return None
        text = DOCUMENT.read_text(encoding="utf-8")
        table = _cells(text)
        for (family, key), found in self.cells.items():
            if not agrees(table.get((family, _title(key)), ""), found):
                return (
                    f"docs/models.md is not what the tests found ({family}, {_title(key)}: "
                    f"{shown(found)}): {COMMAND}"
                )
        return None

    def _complete(self, lines: Sequence[Line]) -> bool:
        return all((one.name, line.key) in self.cells for one in families() for line in lines)

    def _write(self) -> None:
        text = DOCUMENT.read_text(encoding="utf-8")
        before, rest = text.split(BEGIN, 1)
        _, after = rest.split(END, 1)
        table = f"{BEGIN}\n{self.table(_cells(text))}{END}"
        DOCUMENT.write_text(before + table + after, encoding="utf-8")

    def table(self, known: Mapping[tuple[str, str], str]) -> str:
        """Markdown: a line per capability, a column per policy.

        Args:
            known: Cells that the document has, by family and title: they stay where this session
                found nothing, since slow tests and those of extras may run apart.
        """

        def cell(name: str, line: Line) -> str:
            found = self.cells.get((name, line.key))
            return known.get((name, line.title), UNKNOWN) if found is None else shown(found)

        names = [family.name for family in families()]
        rows = [["", *names], ["---"] * (len(names) + 1)]
        for line in LINES:
            rows.append([line.title, *(cell(name, line) for name in names)])
        return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def shown(value: str | float) -> str:
    """A cell. 0 is exact; others get a bound: the next of 1, 2, 5 · 10ᵏ above twice the number."""
    if isinstance(value, str):
        return value
    if value == 0:
        return f"{YES} exact"
    wanted = max(2 * value, SMALLEST) * (1 - 1e-9)  # a bound is not a decimal: 1e-6 is a bit more
    exponent = math.floor(math.log10(wanted))
    digit = next(one for one in (1, 2, 5, 10) if one * 10.0**exponent >= wanted)
    return f"{YES} ≤ 1e{exponent + 1}" if digit == 10 else f"{YES} ≤ {digit}e{exponent}"


def agrees(cell: str, found: str | float) -> bool:
    """Whether a cell of the document is true: equal words, or a bound that holds."""
    if isinstance(found, str) or "≤" not in cell:
        return cell == shown(found)
    return found <= float(cell.split("≤")[1])


def _title(key: str) -> str:
    return next(line.title for line in LINES if line.key == key)


def _cells(text: str) -> dict[tuple[str, str], str]:
    """By (family, title)."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.split(BEGIN)[1].split(END)[0].split("\n")
        if line.startswith("|")
    ]
    if not rows:
        return {}
    names = rows[0][1:]
    return {
        (name, row[0]): cell for row in rows[2:] for name, cell in zip(names, row[1:], strict=True)
    }
