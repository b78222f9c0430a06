"""The one error that a user can cause: a sentence with the value and the cure; `main` exits with code 2 on it."""

from typing import Any

import numpy as np


class InputError(ValueError):
    """Something that the user gave is wrong. The message names the value and says what to do."""


def reason(error: Exception) -> str:
    """The first line of what another's error says, at most 200 characters, without its full stop; its name if it says nothing."""
    return str(error).strip().partition("\n")[0].rstrip(" .:")[:200] or type(error).__name__


def described(value: Any) -> str:
    """A value in a sentence: itself, or what it is where that would take a line."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return repr(value) if isinstance(value, np.generic) else f"an array of shape {list(value.shape)}"
    text = repr(value)
    return text if len(text) <= 80 and "\n" not in text else f"a {type(value).__name__}"
