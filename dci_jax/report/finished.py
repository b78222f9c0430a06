"""Whether a workdir holds a finished run whose files a page can be made of: which file is wrong, and why."""

import csv
import math
from pathlib import Path

from dci_jax.errors import InputError
from dci_jax.results import CELL
from dci_jax.runtime.files import read_json

_TEXT = {"target", *CELL}


def check(workdir: Path) -> None:
    """Read config.json and summary.csv of a finished run.

    Raises:
      InputError: one of them is damaged; which, why, and what to do.
    """
    file = workdir / "config.json"
    try:
        config = read_json(file)
        if not isinstance(config.get("data"), dict):
            raise _wrong(file, "it has no section 'data'")
        file = workdir / "summary.csv"
        with file.open(newline="") as stream:
            _check_rows(file, list(csv.DictReader(stream)))
    except InputError as error:
        raise InputError(str(error).replace("give the same line", "give the command of that run again")) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _wrong(file, error) from error


def _check_rows(file, rows):
    if not rows:
        raise _wrong(file, "it has no row")
    missing = [name for name in ("target", "n", "split", "attack", "defense") if name not in rows[0]]
    if missing:
        raise _wrong(file, f"it has no column {missing[0]!r}")
    seen = set()
    for line, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise _wrong(file, f"line {line} has a different number of columns")
        cell = row["target"], row["split"], row["attack"], row["defense"]
        if cell in seen:
            raise _wrong(file, f"line {line} is a duplicate: {', '.join(cell[1:])}")
        seen.add(cell)
        for name, text in row.items():
            if text and name not in _TEXT and not _finite(text):
                raise _wrong(file, f"line {line} has {text!r} for {name}")


def _finite(text):
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _wrong(file, why):
    why = " ".join(str(why).split())[:200]
    return InputError(f"{file} is damaged ({why}); delete it and give the command of that run again to remake it.")
