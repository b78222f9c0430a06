"""Writing a file so that a kill leaves the old one or the new one, never half of it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def replacing(path: Path, mode: str = "w") -> Iterator[IO]:
    """A stream to a file beside `path`, which takes its place once everything is written.

    Args:
      path: the file; its folder is made if need be.
      mode: "w" for text (UTF-8), "wb" for bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with part.open(mode, encoding=None if "b" in mode else "utf-8", newline=None) as stream:
            yield stream
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)  # a full disk needs the room
        raise
