"""What the trainers' arguments may be, checked before the first batch: one sentence with the value and the fix."""

import argparse
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

from dci_jax.data.images import Images
from dci_jax.errors import InputError


def finish(main: Callable[[], int | None], name: str) -> int:
    """Run a trainer's command line; its exit code: 2 for bad input, 130 for Ctrl-C, each with one sentence."""
    try:
        return main() or 0
    except InputError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            f"{name}: stopped by Ctrl-C; the same line goes on from the last checkpoint, if it has a --workdir.",
            file=sys.stderr,
        )
        return 130


def whole(least: int, most: int = 10**9) -> Callable[[str], int]:
    """An argparse type: a whole number in [least, most]."""

    def read(text):
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(f"it is {text!r}; give a whole number of {least} to {most}.")
        return value

    return read


def number(least: float, most: float, above: bool = False) -> Callable[[str], float]:
    """An argparse type: a finite number in [least, most], or above `least`."""

    def read(text):
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most or (above and value == least):
            low = f"above {least:g}" if above else f"of {least:g}"
            raise argparse.ArgumentTypeError(f"it is {text!r}; give a number {low} to {most:g}.")
        return value

    return read


def check_file(path: str, flag: str) -> None:
    """Raise InputError where a file cannot be written at `path`."""
    file = Path(path)
    if not path.strip() or file.is_dir():
        raise InputError(f"{flag} is {path!r}, a folder; give the name of a file.")
    if not file.parent.is_dir():
        raise InputError(f"{flag}: the folder {file.parent} is not there; make it first.")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise InputError(f"{flag}: {path} cannot be written; give another file.")


def check_labels(images: Images, classes: int, flag: str) -> None:
    """Raise InputError where images have no labels, or labels that a network of so many classes does not have."""
    if images.labels is None:
        raise InputError(f"{flag}: the images have no labels; give folders named by class, or an npz with labels.")
    if not 0 <= images.labels.min() <= images.labels.max() < classes:
        raise InputError(
            f"{flag}: labels are {images.labels.min()} to {images.labels.max()}, but the network has {classes} classes, counted from "
            "0; correct the labels."
        )


def check_count(images: Images, least: int, flag: str, needed_for: str) -> None:
    """Raise InputError where there are fewer images than `least`."""
    if len(images) < least:
        raise InputError(
            f"{flag} has {len(images)} images, fewer than {needed_for} of {least}; give more, or a smaller one."
        )
