"""The table of docs/models.md is compared when it can be, and written when that is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from policies import ledger
from policies.families import families
from policies.ledger import LINES, Ledger, agrees, shown


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("one", "one"),
        (0.0, "✔ exact"),
        (1e-9, "✔ ≤ 1e-6"),
        (5e-7, "✔ ≤ 1e-6"),
        (6e-7, "✔ ≤ 2e-6"),
        (0.003, "✔ ≤ 1e-2"),
        (0.02, "✔ ≤ 5e-2"),
    ],
)
def test_a_number_becomes_a_bound_with_room(value: str | float, cell: str) -> None:
    assert shown(value) == cell and agrees(cell, value)


def test_a_bound_has_to_hold_and_a_word_to_be_equal() -> None:
    assert agrees("✔ ≤ 1e-2", 0.009) and agrees("✔ ≤ 1e-2", 0.0001)
    assert not agrees("✔ ≤ 1e-2", 0.011)
    assert not agrees("✔ exact", 1e-9) and not agrees("", 0.0) and not agrees("one", "1 to 4")


@pytest.fixture
def document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "models.md"
    file.write_text(f"above\n{ledger.BEGIN}\n{ledger.END}\nbelow\n", encoding="utf-8")
    monkeypatch.setattr(ledger, "DOCUMENT", file)
    monkeypatch.delenv(ledger.REWRITE, raising=False)
    return file


def filled(*, slow: bool) -> Ledger:
    found = Ledger()
    for family in families():
        for line in LINES:
            if slow or line.always:
                found.record(family.name, line.key, 0.003)
    return found


def test_written_and_compared(document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Ledger().problem() is None  # a part of the tests says nothing
    assert "is not what the tests found" in str(filled(slow=False).problem())
    monkeypatch.setenv(ledger.REWRITE, "1")
    assert filled(slow=False).problem() is None
    sometimes = sum(not line.always for line in LINES) * len(families())
    assert document.read_text().count(ledger.UNKNOWN) == sometimes
    only_slow = Ledger()
    for family in families():
        for line in LINES:
            if not line.always:
                only_slow.record(family.name, line.key, 0.003)
    assert only_slow.problem() is None
    text = document.read_text()
    assert text.startswith("above\n") and text.endswith("below\n")
    assert text.count("✔ ≤ 1e-2") == len(LINES) * len(families())

    monkeypatch.delenv(ledger.REWRITE)
    assert filled(slow=False).problem() is None
    worse = filled(slow=True)
    worse.record(families()[0].name, "compile", 0.02)
    problem = str(worse.problem())
    assert families()[0].name in problem and ledger.COMMAND in problem and "\n" not in problem


def test_the_document_names_every_policy_and_recipe() -> None:
    text = ledger.DOCUMENT.read_text(encoding="utf-8")
    assert all(f"`{one.kind}`" in text and f"`{one.recipe}`" in text for one in families())
