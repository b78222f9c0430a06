"""Audit a network: every split point x defense x attack on your images, as numbers and as one page."""

import contextlib
import csv
import html
import io
import json
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from dci_jax import settings as fields
from dci_jax.api.calls import float32
from dci_jax.check import case_of, check_fields
from dci_jax.data.images import Images
from dci_jax.data.images import load as read_images
from dci_jax.errors import InputError, described
from dci_jax.experiment import run
from dci_jax.fingerprint import fingerprint
from dci_jax.network import Network, check_network, classes
from dci_jax.runtime import progress as shown
from dci_jax.runtime import sharding
from dci_jax.runtime.workdir import claim
from dci_jax.settings.check import check_value
from dci_jax.settings.fields import FIELDS
from dci_jax.settings.renamed import moved

_KEPT = ("summary.csv", "results.jsonl", "config.json", "environment.json", "timing.json", "depends.json")


@dataclass(frozen=True)
class Report:
    """The result of an audit; a notebook shows it as its page.

    Attributes:
      verdict: the page's opening paragraph, as plain text.
      files: path relative to the report's folder -> content.
    """

    verdict: str
    files: dict[str, bytes]

    def to_records(self) -> list[dict[str, Any]]:
        """One dict for each split point, defense and attack, and for each baseline: the columns of summary.csv, for pandas.

        Numbers become floats, "True" and "False" bools, and missing values None.
        """
        rows = csv.DictReader(io.StringIO(self.files["summary.csv"].decode()))
        return [{name: _number(value) for name, value in row.items()} for row in rows]

    def save(self, folder: str | Path) -> Path:
        """Write the page and its numbers, overwriting existing files; returns the path of report/index.html."""
        for name, content in self.files.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return Path(folder) / "report" / "index.html"

    def _repr_html_(self) -> str:
        page = html.escape(self.files["report/index.html"].decode(), quote=True)
        return f'<iframe srcdoc="{page}" style="width: 100%; height: 800px; border: 0"></iframe>'

    def __repr__(self) -> str:
        return f"Report({self.verdict})"


def audit(
    network: Network,
    images: np.ndarray | str | Path | None = None,
    *,
    splits: Sequence[str] = (),
    defenses: Sequence[tuple[str, float]] | None = None,
    attacks: Sequence[str] | None = None,
    labels: Sequence[int] | None = None,
    num_queries: Sequence[int] = (1,),
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> Report:
    """Attack the features of images at every split point, behind every defense, and judge what leaks.

    Args:
      network: the target; a classifier of images.
      images: the private images: [N, H, W, C], uint8, or floats in [0, 1]; or the path of a folder, zip or npz. None: sample photographs
        of scikit-image. No attack sees them; they are used only for scoring.
      splits: split points; (): four, evenly spaced by the device's operations, or the number in the setting "num_splits" (0: all).
      defenses: ((kind, strength), ...); None: those of configs/audit.py.
      attacks: their names; None: those of configs/audit.py, which know the defense.
      labels: true classes of the images, for top-1; None: unknown.
      num_queries: how often each input is sent through a random defense; one row per number.
      seed: seed of all random numbers.
      settings: other fields of docs/fields.md, such as {"dci.num_images": 256}.
      cache_dir: stores intermediate results, from which the same call resumes. None: a temporary folder.
      progress: whether to show a bar, or a line every half minute where stderr is no terminal.

    Raises:
      InputError: an invalid name, shape or value; the message says what to give instead.
    """
    check_network(network)
    config = fields.audit()
    given = {"splits": _row(splits), "num_queries": _row(num_queries), "seed": seed}
    given |= {} if defenses is None else {"defenses": _row(defenses)}
    given |= {} if attacks is None else {"attacks": _row(attacks)}
    given["target.name"] = network.name
    if not isinstance(settings, dict | None) or not all(isinstance(name, str) for name in settings or ()):
        raise InputError(
            f"settings is {described(settings)}; give a dict of fields, such as {{'dci.num_images': 256}}."
        )
    _set(config, given | (settings or {}))
    check_fields(config)
    private = _images(network, images, labels)
    folder = tempfile.TemporaryDirectory() if cache_dir is None else contextlib.nullcontext(str(cache_dir))
    with folder as workdir, shown.visible(progress), float32():
        case = case_of(config, sharding.put(network, sharding.replicated()), private)
        plain = json.loads(config.to_json_best_effort())
        claim(Path(workdir), plain, "dci_jax.audit(...)", fingerprint(config, case))
        run(config, case, Path(workdir))
        return _report(Path(workdir))


def _row(given):
    """Several values as a tuple; a single one unchanged, which the check of the field refuses."""
    return tuple(given) if isinstance(given, Iterable) and not isinstance(given, str | bytes | dict) else given


def _set(config, given):
    """Set fields by their dotted names."""
    for name, value in given.items():
        if name not in FIELDS:
            if sentence := moved(name):
                raise InputError(f"{sentence} (docs/fields.md explains every field).")
            raise InputError(f"There is no setting {name!r}; docs/fields.md lists them ({', '.join(sorted(FIELDS))}).")
        check_value(name, value, FIELDS[name].form)  # before ml_collections makes 1.0 of True
        section, _, field = name.rpartition(".")
        with config.ignore_type():
            (config[section] if section else config)[field] = value


def _images(network, images, labels):
    """The private images as `Images`; None if none are given."""
    if images is None:
        return None
    if isinstance(images, str | Path):
        found = read_images(str(images), network.input_shape, crop=network.crop, flag="images")
    else:
        found = _of_array(network, np.asarray(images))
    if labels is None:
        return found
    return Images(found.names, found.pixels, _labels(network, labels, len(found)), found.skipped)


def _labels(network, labels, count):
    """The labels int32 [count], each a class of the network."""
    try:
        found = np.asarray(labels)
    except ValueError:  # rows of several lengths
        found = np.asarray(None)
    if found.shape != (count,):
        raise InputError(
            f"The labels have the shape {list(found.shape)}; give one number for each of the {count} images."
        )
    number = classes(network)
    if number is None or found.dtype.kind not in "iu" or not ((found >= 0) & (found < number)).all():
        allowed = f"whole numbers from 0 to {number - 1}" if number else "none: the network has no classes"
        raise InputError(f"The labels are {described(labels)}; give {allowed}.")
    return found.astype(np.int32)


def _of_array(network, pixels):
    shape = network.input_shape
    if pixels.ndim != 4 or pixels.shape[1:] != shape or not len(pixels):
        raise InputError(
            f"images have the shape {list(pixels.shape)}, but {network.name} takes [N, {', '.join(map(str, shape))}], channels last."
        )
    if pixels.dtype != np.uint8:
        if not np.isfinite(pixels).all() or pixels.min() < 0 or pixels.max() > 1:
            raise InputError(
                f"images are {pixels.dtype} from {pixels.min():g} to {pixels.max():g}; give uint8, or floats in [0, 1]."
            )
        pixels = np.uint8(np.round(255 * pixels))
    return Images(tuple(f"image {i}" for i in range(len(pixels))), pixels)


def _report(workdir):
    paths = [workdir / name for name in _KEPT if (workdir / name).exists()]
    paths += [path for path in sorted((workdir / "report").rglob("*")) if path.is_file()]
    files = {path.relative_to(workdir).as_posix(): path.read_bytes() for path in paths}
    found = re.search(r"<p class=lead id=verdict>(.*?)</p>", files["report/index.html"].decode(), re.S)
    verdict = found[1] if found else ""  # `settings` may ask for another page
    return Report(" ".join(Markup(verdict).striptags().split()), files)


def _number(value):
    if value in ("", "True", "False"):
        return {"": None, "True": True, "False": False}[value]
    try:
        return float(value)
    except ValueError:
        return value
