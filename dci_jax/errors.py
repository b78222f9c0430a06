"""The one error that a user can cause: a sentence with the value and the cure; `main` exits with code 2 on it."""


class InputError(ValueError):
    """Something that the user gave is wrong. The message names the value and says what to do."""
