"""Ten thousand bad inputs: each is a right result or one sentence, never a traceback. Seeded; a number names its case.

Kinds take turns: configs with fields of wrong value and type; damaged bundles, archives of pictures, npz of pictures, recorded
features, files of labels, safetensors; what strangers make (`soak.strange`): PyTorch's pickles, odd pictures; and the doors
beside the main line (`soak.doors`). What takes longer than a minute waits for ever: a fault.
"""

import collections
import csv
import functools
import gc
import io
import json
import logging
import math
import multiprocessing
import random
import signal
import tempfile
import traceback
import warnings
import zipfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import jax
import numpy as np
import safetensors.numpy
from PIL import Image

from benchmarks.soak import doors, known, own, strange
from benchmarks.soak.damage import damaged
from configs import audit, default, quickstart
from dci_jax import models
from dci_jax.check import check
from dci_jax.checkpoints import read as checkpoints
from dci_jax.data import images, labels
from dci_jax.errors import InputError
from dci_jax.evaluation import recorded
from dci_jax.importers import bundle

VALUES = (
    *(
        0,
        1,
        -1,
        2,
        3,
        -3,
        7,
        10**6,
        10**12,
        2**63,
        2**64,
        0.0,
        0.5,
        -0.5,
        1.5,
        1e-30,
        1e30,
        math.inf,
        -math.inf,
        math.nan,
    ),
    *(True, False, None, "", "x", "stem", "layer1.0", "dci", "none", "float16", "a/b", "../x", "\0", "é" * 5),
)
PATIENCE = 60  # seconds
VIT = Path(__file__).parent.parent / "results" / "networks_vit" / "bundle"
# Loaded once: what is tried here is not the embedded checkpoint.
load = functools.lru_cache(models.load)


def values(rng: random.Random):
    """A number, a text, a tuple of them, or a tuple of tuples."""
    kind = rng.random()
    if kind < 0.55:
        return rng.choice(VALUES)
    if kind < 0.8:
        return tuple(rng.choice(VALUES) for _ in range(rng.randint(0, 3)))
    return tuple(tuple(rng.choice(VALUES) for _ in range(rng.randint(0, 3))) for _ in range(rng.randint(0, 3)))


def fields(config, above=""):
    """Names of all fields."""
    for name in config:
        if hasattr(config[name], "keys"):
            yield from fields(config[name], f"{above}{name}.")
        else:
            yield above + name


def config(rng: random.Random, folder: Path) -> Callable[[], None]:
    """Some fields of a config are wrong."""
    del folder
    given = rng.choice([default, audit, quickstart]).get_config()
    names = list(fields(given))
    wrong = rng.randint(1, 3)
    while wrong:
        try:
            given.update_from_flattened_dict({rng.choice(names): values(rng)})
            wrong -= 1
        except (
            TypeError,
            ValueError,
            KeyError,
        ):  # of another type: ml_collections' own sentence, which `main` passes on
            continue
    return functools.partial(check, given, planned=rng.random() < 0.3)


@functools.cache
def whole(kind: str) -> bytes:
    """An undamaged file."""
    stream, pixels = io.BytesIO(), np.arange(4 * 8 * 8 * 3, dtype=np.uint8).reshape(4, 8, 8, 3)
    if kind == "zip":
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for number, suffix in enumerate(("png", "jpeg", "bmp", "gif", "webp", "tiff")):
                picture = io.BytesIO()
                Image.fromarray(pixels[number % 4]).save(picture, suffix)
                archive.writestr(f"{number % 2}/{number}.{suffix}", picture.getvalue())
    elif kind == "npz":
        np.savez_compressed(stream, images=pixels, labels=np.arange(4))
    elif kind == "dump":
        np.savez(stream, features=np.ones((2, 32, 32, 16), np.float32), split="layer1.0")
    elif kind == "csv":
        lines = io.StringIO()
        csv.writer(lines).writerows([("image", "label"), *((f"{i % 2}/{i}.png", i) for i in range(6))])
        return lines.getvalue().encode()
    else:
        return safetensors.numpy.save({"a.weight": np.ones((3, 4), np.float32), "a.bias": np.zeros(3, np.float16)})
    return stream.getvalue()


def file(
    kind: str, suffix: str, read: Callable[[Path], object], rng: random.Random, folder: Path
) -> Callable[[], object]:
    """A damaged file, and what reads it."""
    path = folder / f"x.{suffix}"
    path.write_bytes(damaged(rng, whole(kind)))
    return functools.partial(read, path)


def converted(rng: random.Random, folder: Path) -> Callable[[], object]:
    """A bundle with one damaged file."""
    for name in (bundle.MANIFEST, bundle.WEIGHTS):
        (folder / name).write_bytes((VIT / name).read_bytes())
    name = rng.choice([bundle.MANIFEST, bundle.WEIGHTS])
    (folder / name).write_bytes(damaged(rng, (VIT / name).read_bytes()))
    return functools.partial(bundle.load, folder)


KINDS = {
    "config": config,
    "bundle": converted,
    "pictures.zip": functools.partial(file, "zip", "zip", lambda path: images.load(path, (8, 8, 3))),
    "pictures.npz": functools.partial(file, "npz", "npz", lambda path: images.load(path, (8, 8, 3))),
    "features.npz": functools.partial(
        file, "dump", "npz", lambda path: recorded.read_dump(path, load("cifar_resnet20"))
    ),
    "labels.csv": functools.partial(file, "csv", "csv", lambda path: labels.read_labels(path)),
    "weights.safetensors": functools.partial(file, "safetensors", "safetensors", checkpoints.read),
    "weights.pth": strange.weights,
    "odd pictures": strange.pictures,
    **doors.KINDS,
    **own.KINDS,
}


class Case(random.Random):
    """The random numbers of a case, and which one it is."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


SETS = {"inputs": KINDS, "known": known.KINDS}


def attempt(number: int, kinds: dict[str, Callable] = KINDS) -> tuple[str, str, str]:
    """(kind, outcome, sentence or traceback) of one case: outcome "result", "sentence" or "fault"."""
    kind = list(kinds)[number % len(kinds)]
    rng = Case(number)
    signal.signal(signal.SIGALRM, _waiting)
    with tempfile.TemporaryDirectory() as folder:
        try:
            signal.alarm(PATIENCE)
            kinds[kind](rng, Path(folder))()
        except InputError as error:
            said = str(error).replace(folder, "FOLDER")
            return kind, "sentence" if "\n" not in said and said.endswith((".", ")")) else "fault", said
        except (Exception, SystemExit, Waited):
            return kind, "fault", traceback.format_exc()
        finally:
            signal.alarm(0)
    return kind, "result", ""


class Waited(BaseException):
    """Nothing of ours catches it."""


def _waiting(*_):
    raise Waited


_CHUNK = 1250  # cases of one process, whose first reports and chains take a minute
_CLEARED = 100  # after so many, what JAX keeps of their networks goes


def run(numbers: range, of: str = "inputs") -> dict:
    """Counts by kind and outcome, the sentences by their first 40 characters, and every fault."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    models.load = load
    counts, sentences, faults = collections.Counter(), {}, {}
    for number in numbers:
        if number % _CLEARED == 0:
            jax.clear_caches()
            gc.collect()
        kind, outcome, said = attempt(number, SETS[of])
        counts[f"{kind}: {outcome}"] += 1
        if outcome == "sentence":
            sentences.setdefault(said[:40], said)
        if outcome == "fault":
            faults[str(number)] = said
    return {"count": len(numbers), "counts": counts, "said": sentences, "faults": faults}


def _together(found, more):
    """Two results of `run`, or a file's, as one."""
    return {
        "count": found["count"] + more["count"],
        "counts": dict(sorted((collections.Counter(found["counts"]) + collections.Counter(more["counts"])).items())),
        "said": more["said"] | found["said"],
        "faults": found["faults"] | more["faults"],
    }


def soak(of: str, numbers: range, only: int | None, jobs: int, out: Path | None, command: str) -> int:
    """Try these cases of a set, or one alone; writes JSON to `out`, which the same line goes on from. Returns 1 if there is a fault.

    Every few thousand cases have a process of their own.
    """
    if only is not None:
        logging.disable(logging.CRITICAL)
        models.load = load
        print(*attempt(only, SETS[of]), sep="\n")
        return 0
    found = {"count": 0, "counts": {}, "said": {}, "faults": {}}
    if out and out.exists() and "said" in (before := json.loads(out.read_text())):
        found = before
    left = numbers[found["count"] :]
    chunks = [left[i : i + _CHUNK] for i in range(0, len(left), _CHUNK)]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn, max_tasks_per_child=1) as pool:
        for more in pool.map(functools.partial(run, of=of), chunks):
            found = _together(found, more)
            if out:
                out.write_text(json.dumps(found | {"command": command, "jax": jax.__version__}, indent=1))
    found = found | {"sentences": len(found.pop("said")), "command": command, "jax": jax.__version__}
    if out:
        out.write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))
    return bool(found["faults"])
