"""The command line of a benchmark: its arguments, or the module's own text and exit code 2."""

import sys


def arguments(text: str, least: int, most: int | None = None) -> list[str]:
    """What was given after the module's name, `least` to `most` of them; else `text`, the module's docstring, and exit."""
    given = sys.argv[1:]
    if given and given[0] in ("-h", "--help"):
        print(text)
        sys.exit(0)
    if len(given) < least or (most is not None and len(given) > most):
        print(text, file=sys.stderr)
        sys.exit(2)
    return given
