"""Text from elsewhere cannot steer a terminal, nor is it markup."""

from __future__ import annotations

import io

import pytest
from rich.progress import Progress, TextColumn
from rich.table import Table

from likewise.printable import markdown, printable
from likewise.terminal import SafeConsole, say, shown

EVIL = "\x1b[31m[bold]cat[/] \x9b2J\u202e\r\x07"
HARMLESS = r"\x1b[31m[bold]cat[/] \x9b2J\u202e\r\x07"


def test_printable_escapes_only_what_a_terminal_obeys() -> None:
    assert printable(EVIL) == HARMLESS
    assert printable("\ud800\u2028\x00\x7f") == r"\ud800\u2028\x00\x7f"
    plain = "Ein Kätzchen — 猫 🐈‍⬛, 'quoted' \\n\n\tsecond line"
    assert printable(plain) == plain


def test_a_console_prints_foreign_text_as_it_is() -> None:
    file = io.StringIO()
    console = SafeConsole(file=file, width=200)
    table = Table(title=shown(EVIL))
    table.add_column(shown(EVIL))
    table.add_row(EVIL)  # even where it was forgotten
    console.print(shown(EVIL))
    console.print(table)
    assert "\x1b" not in file.getvalue() and "\x9b" not in file.getvalue()
    assert file.getvalue().startswith(HARMLESS + "\n")


def test_styles_and_bars_of_a_console_still_work() -> None:
    file = io.StringIO()
    console = SafeConsole(
        file=file, width=80, force_terminal=True, color_system="standard", highlight=False
    )
    with Progress(TextColumn("{task.description}"), console=console) as bar:
        bar.add_task(shown(EVIL))
        console.print(f"[red]{shown(EVIL)}[/]")
    written = file.getvalue()
    assert "\x1b[31m\\x1b[31m[bold]cat" in written and "\x1b[?25h" in written
    assert "\x9b" not in written and "\u202e" not in written


def test_plain_lines_are_harmless_too(capsys: pytest.CaptureFixture[str]) -> None:
    say(EVIL, err=True)
    assert capsys.readouterr().err == HARMLESS + "\n"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a|b", r"a\|b"),
        ("<img src=x onerror=alert(1)> & co", "&lt;img src=x onerror=alert(1)&gt; &amp; co"),
        ("# title\n\n- item", r"\# title - item"),
        ("![x](http://e)", r"!\[x\](http://e)"),
        ("**a** `b` ~~c~~ $d$ \\", r"\*\*a\*\* \`b\` \~\~c\~\~ \$d\$ " + "\\\\"),
        ("clip_t/held-out _it_", r"clip_t/held-out \_it\_"),
        ("- a", r"\- a"),
        ("1. a", r"1\. a"),
        ("\x1b[1m", r"\\x1b\[1m"),
        ("evaluator/identity, 3.5 % (n = 4)", "evaluator/identity, 3.5 % (n = 4)"),
    ],
)
def test_markdown_shows_text_as_it_is(text: str, written: str) -> None:
    assert markdown(text) == written
