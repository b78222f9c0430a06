"""A file of true labels: a CSV of lines `image,label`, by an image's name, its file's name or its folder's."""

import csv
import os
from pathlib import Path

import numpy as np

from dci_jax.errors import InputError


def read_labels(path: Path) -> dict[str, int]:
    """What a CSV file of lines `image,label` says."""
    if os.path.exists(path) and not os.path.isfile(path):  # opening a pipe would wait for ever
        raise InputError(f"No labels can be read from {path}, which is no file; check data.labels.")
    table, line = {}, 1
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
            reader = csv.reader(stream, strict=True)
            if next(reader, None) != ["image", "label"]:
                raise ValueError("not the header 'image,label'")
            line = 2
            for row in reader:
                if row:
                    image, label = row if len(row) == 2 else ("", "")
                    number = int(label) if label.isascii() and label.isdigit() else -1
                    if not image or not 0 <= number < 2**31:
                        said = ",".join(row)[:80]
                        raise ValueError(f"{said!r} is not 'image,label' with a label 0, 1, 2 ...")
                    if "\N{REPLACEMENT CHARACTER}" in image:
                        raise ValueError(f"{image[:80]!r} is not UTF-8")
                    if table.setdefault(image, number) != number:
                        raise ValueError(f"{image[:80]!r} has the label {table[image]} already")
                line = reader.line_num + 1
    except OSError as error:
        raise InputError(f"No labels can be read from {path} ({error.strerror}); check data.labels.") from error
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path}, line {line}: {error}; correct that line.") from error
    return table


def look_up(table: dict[str, int], names: tuple[str, ...], source: str | Path) -> np.ndarray:
    """int32 [N]: the label of each image, found by its name, its file's name or its folder's."""
    labels = []
    for name in names:
        keys = (name, Path(name).name, Path(name).parent.name)
        key = next((key for key in keys if key in table), None)
        if key is None:
            raise InputError(
                f"{source} has no label for {name}; add a line with its name, its file's name or its folder's."
            )
        labels.append(table[key])
    return np.array(labels, np.int32)
