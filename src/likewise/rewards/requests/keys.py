"""API keys: from the environment only, and never in a message."""

from __future__ import annotations

import os
import re

from pydantic import SecretStr


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
