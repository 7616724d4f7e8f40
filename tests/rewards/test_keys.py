"""What a message may quote of a server that repeats the key."""

from __future__ import annotations

import base64
import codecs
import json
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from likewise.rewards.common.keys import HEAD, safe_head

KEYS = ["sk-proj-9fQx7LmZ2vTn4RbW8yKd", "0123456789abcdef-a-secret", "hf_abcdefghijklmnopqrst"]
CODES = {
    "plain": lambda key: key,
    "reversed": lambda key: key[::-1],
    "cut": lambda key: f"{key[:8]}… {key[-6:]}",
    "capitals": lambda key: key.swapcase(),
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "url-base64": lambda key: base64.urlsafe_b64encode(key.encode()).decode().rstrip("="),
    "shifted base64": lambda key: base64.b64encode(f"Bearer {key}".encode()).decode(),
    "base32": lambda key: base64.b32encode(key.encode()).decode(),
    "hex": lambda key: key.encode().hex(),
    "spaced hex": lambda key: key.encode().hex(" "),
    "reversed base64": lambda key: base64.b64encode(key.encode()).decode()[::-1],
    "rot13": lambda key: codecs.encode(key, "rot13"),
    "percents": lambda key: "".join(f"%{byte:02X}" for byte in key.encode()),
    "quoted": lambda key: quote(key, safe=""),
    "escapes": lambda key: "".join(f"\\u{byte:04x}" for byte in key.encode()),
    "numbers": lambda key: str(list(key.encode())),
    "spelled out": lambda key: " ".join(key),
    "dotted": lambda key: ".".join(key),
    "half, spaced": lambda key: f"{key[:12]} {key[12:]}",
    "groups": lambda key: " ".join(
        base64.b64encode(key.encode()).decode().rstrip("=")[i : i + 6] for i in range(0, 40, 6)
    ),
}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("code", CODES)
def test_no_form_of_the_key_is_quoted(code: str, key: str) -> None:
    """What is left is too little to make out the key: words around it, and three signs at most."""
    echoed = CODES[code](key)
    for text in (f"bad key {echoed} was sent", f'{{"detail": "bad key {echoed}"}}', echoed * 3):
        said = safe_head(text, SecretStr(key))
        kept = said
        for word in ("bad", "key", "was", "sent", "detail", "Bearer"):
            kept = kept.replace(word, "")
        kept = "".join(one for one in kept if one.isalnum())
        assert len(kept) <= 12, said
        assert not any(key[i : i + 4] in said for i in range(len(key) - 3)), said
    assert safe_head(f"bad key {echoed}", SecretStr(key)).startswith("bad key ")


@pytest.mark.parametrize(
    "text",
    [
        "the reward failed: RuntimeError: no such file: data/images/duck.png",
        '{"detail":"tasks.0.reference: Field required"}',
        "image 3 is 4096×4096; 4194304 pixels are the limit",
        "model gpt-4o has no max_completion_tokens, use response_format json_schema",
        "请求过于频繁，请稍后再试",
        "Für dieses Modell gibt es keinen Zugang.",
    ],
)
def test_what_helps_is_kept(text: str) -> None:
    assert safe_head(text, SecretStr(KEYS[0])) == text
    assert safe_head(text, None) == text


def test_heads_are_short_and_printable() -> None:
    for key in (None, SecretStr(KEYS[0])):
        assert len(safe_head("word " * 10_000, key)) <= HEAD + 1
        said = safe_head("red \x1b[31m alert\x07\nnext\u202eline\r\n", key)
        assert said.isprintable() and "\n" not in said and "alert" in said
        assert safe_head("", key) == ""
        assert len(safe_head(json.dumps([1] * 10_000), key)) <= HEAD + 1
