"""The one error that a user can cause: a sentence with the value and the cure; `main` exits with code 2 on it."""


class InputError(ValueError):
    """Something that the user gave is wrong. The message names the value and says what to do."""


def reason(error: Exception) -> str:
    """The first line of what another's error says, at most 200 characters, without its full stop; its name if it says nothing."""
    return str(error).strip().partition("\n")[0].rstrip(" .:")[:200] or type(error).__name__
