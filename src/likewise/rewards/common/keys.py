"""API keys: from the environment only, and never in a message."""

from __future__ import annotations

import base64
import codecs
import os
import re
from collections.abc import Iterator
from urllib.parse import quote

from pydantic import SecretStr

HEAD = 160  # characters that a message quotes of an answer
SHARED = 4  # characters in a row that no quotation shares with a key
LONGEST_WORD = 24  # letters; what is longer is hardly language
LONGEST_CODE = 8  # characters of something like ``v1`` or ``512x512``
ODD_IN_A_ROW = 3  # words of no language: more of them may spell out anything
_TOKEN = re.compile(r"[\w%~\\-]+")
_LANGUAGE = re.compile(r"[^\W\d_]+(?:[_-][^\W\d_]+)*")
LEFT_OUT = "…"


def read_key(variable: str | None) -> SecretStr | None:
    """The key in an environment variable; None if no variable is named.

    Raises:
        ValueError: the variable is not set, or holds what no HTTP header can.
    """
    if variable is None:
        return None
    value = os.environ.get(variable, "").strip()
    if not value:
        raise ValueError(f"the environment variable {variable} is not set")
    if not re.fullmatch(r"[\x21-\x7e]+", value):  # an HTTP library would quote it in its complaint
        raise ValueError(f"{variable} holds no key: it has spaces or characters outside ASCII")
    return SecretStr(value)


def hide(text: str, key: SecretStr | None) -> str:
    """`text` without the key, which servers like to repeat in what they complain about."""
    return text.replace(key.get_secret_value(), "[key]") if key else text


def safe_head(text: str, key: SecretStr | None) -> str:
    """The start of what a server says, on one line, without what could be the key in other form.

    Servers repeat keys as they are, cut, reversed, or encoded. Left out are thus words that share
    characters with any usual form of the key, that are too long or too mixed for language, and rows
    of numbers or single letters; and all that is not printable.
    """
    if key is None:
        said = " ".join(_printable(text[: 2 * HEAD]).split())
        return said if len(said) <= HEAD else said[:HEAD] + LEFT_OUT
    forms = [form.casefold() for form in _forms(key)]
    said, odd, end = "", 0, 0
    text = hide(text[: 50 * HEAD], key)
    for token in _TOKEN.finditer(text):
        said += _printable(text[end : token.start()])
        end = token.end()
        language = _LANGUAGE.fullmatch(token[0]) is not None and len(token[0]) > 1
        odd = 0 if language else odd + 1
        longest = LONGEST_WORD if language else LONGEST_CODE
        safe = len(token[0]) <= longest and odd <= ODD_IN_A_ROW and not _shares(token[0], forms)
        said += token[0] if safe else LEFT_OUT
        if len(said) > HEAD:
            break
    else:
        said += _printable(text[end:])
    said = re.sub(rf"{LEFT_OUT}(?:\W*{LEFT_OUT})+", LEFT_OUT, " ".join(said.split()))
    return said if len(said) <= HEAD else said[:HEAD] + LEFT_OUT


def _forms(key: SecretStr) -> Iterator[str]:
    """The key as servers are known to write it, in small letters."""
    plain = key.get_secret_value()
    for one in (plain, plain[::-1]):
        content = one.encode()
        yield from (one, codecs.encode(one, "rot13"), quote(one, safe=""))
        yield from (content.hex(), content.hex()[::-1], base64.b32encode(content).decode())
        for shift, start in enumerate((0, 2, 3)):  # by where the key stands in what is encoded
            encoded = base64.b64encode(bytes(shift) + content).decode()[start:]
            yield from (encoded, encoded[::-1], encoded.translate(str.maketrans("+/", "-_")))


def _shares(token: str, forms: list[str]) -> bool:
    token = token.casefold()[: 2 * LONGEST_WORD]
    parts = {token[i : i + SHARED] for i in range(len(token) - SHARED + 1)}
    return any(part in form for form in forms for part in parts)


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text)
