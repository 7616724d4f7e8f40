"""Text from elsewhere (names, prompts, errors of rewards), harmless wherever it is shown.

A terminal obeys escape sequences, and Markdown its punctuation, wherever they come from.
"""

from __future__ import annotations

import re

# All but newline and tab that a terminal could obey, that hides, or that UTF-8 cannot write: C0 and
# C1 controls, line separators, marks that turn the direction of text, and lone surrogates.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_MARKUP = re.compile(r"[\\`*\[\]|~$#]|(?<![^\W_])_|_(?![^\W_])")
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def printable(text: str) -> str:
    r"""What is unprintable becomes its escape, as in ``\x1b[31m``; newlines and tabs stay."""
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def markdown(text: str) -> str:
    """`text` on one line, such that Markdown shows it as it is, in a table's cell too."""
    line = " ".join(printable(text).split())
    escaped = _MARKUP.sub(lambda found: f"\\{found[0]}", line).translate(_ENTITIES)
    return re.sub(r"^([-+=]|\d+(?=[.)]))", r"\\\1" if not line[:1].isdigit() else r"\1\\", escaped)
