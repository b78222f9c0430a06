"""The files around a run: its config and machine, its timing, its private images; a workdir has one config."""

import contextlib
import fcntl
import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dci_jax import __version__
from dci_jax.errors import InputError
from dci_jax.runtime import distributed
from dci_jax.runtime.files import claimed, damaged, differences, made, read_arrays, read_json, replacing

_SECONDS = ("wall_s", "compile_s", "device_s")  # of a stage, in timing.json
_held = {}  # workdir -> the open file that locks it


def claim(workdir: Path, config: dict, command: str, depends: dict[str, str]) -> None:
    """Write config.json, depends.json and environment.json, or find the same config and files there.

    Args:
      workdir: the folder of the run; made if need be.
      config: nested dict of plain values.
      command: the command line, for the report.
      depends: from `fingerprint`.

    Raises:
      InputError: the workdir belongs to another config, or to one whose files held something else; another run is at
        work in it; it cannot be written, or is not the same folder for all processes.
    """
    text = json.dumps(config, indent=1, sort_keys=True)
    file = workdir / "config.json"
    try:
        if distributed.is_leader():
            _lock(workdir)
        names = []
        if file.exists() and file.read_text() != text:
            names = differences(read_json(file), json.loads(text))
        if names:
            raise InputError(
                f"{workdir} holds a run with another config (it differs in {', '.join(names)}); "
                "give another --workdir, or the config of that run."
            )
        _stages(workdir / "timing.json")  # it is added to when a stage ends: too late to find it damaged
        known = workdir / "depends.json"
        old = read_json(known) if known.exists() else depends
        changed = [field for field in old if depends.get(field) != old[field]]
        if changed:
            raise InputError(
                f"{workdir} began with another content of {', '.join(changed)} under the same name; restore that, or give "
                "another --workdir."
            )
        there = workdir / "environment.json"
        began = read_json(there).get("started") if there.exists() else None
        environment = {
            "command": command,
            "started": began or time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            "python": platform.python_version(),
            "machine": f"{platform.machine()}, {platform.system()}",
            "processes": jax.process_count(),
            "devices": jax.device_count(),
            "device_kind": jax.devices()[0].device_kind,
            "dci_jax": __version__,
            **{p: version(p) for p in ("jax", "jaxlib", "flax", "optax", "numpy")},
        }
        if distributed.is_leader():
            for path, said in (
                (file, text),
                (known, json.dumps(depends, indent=1)),
                (there, json.dumps(environment, indent=1)),
            ):
                with replacing(path) as stream:
                    stream.write(said)
    except OSError as error:
        raise InputError(f"The workdir {workdir} cannot be written ({error}); give another.") from error
    distributed.barrier("claimed")
    claimed(workdir)
    if not file.exists():
        raise InputError(
            f"Process {jax.process_index()} does not see in {workdir} what process 0 has written there; "
            "give a --workdir on a file system that all hosts share."
        )


def _lock(workdir):
    """Keep other runs out of the folder until this process ends, however it ends."""
    workdir.mkdir(parents=True, exist_ok=True)
    if workdir.resolve() in _held:
        return
    stream = (workdir / "lock").open("w")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(f"Another run is at work in {workdir}; wait for it, or give another --workdir.") from error
    except OSError:  # a file system without locks
        pass
    _held[workdir.resolve()] = stream


def present(workdir: Path, *inside: str) -> Path:
    """The folder `inside` the workdir, made if need be.

    Raises:
      FileNotFoundError: the workdir has vanished; nothing may then be written in its place.
    """
    if not (workdir / "config.json").exists():
        raise FileNotFoundError(2, "it has vanished", str(workdir))
    return made(workdir.joinpath(*inside))


@contextlib.contextmanager
def timing(workdir: Path, stage: str) -> Iterator[None]:
    """Add a stage's wall seconds and the compiler's share of them to timing.json; resumed runs add up."""
    compiling = [0.0]

    def listen(event, seconds, **_):
        if event.startswith("/jax/core/compile"):
            compiling[0] += seconds

    jax.monitoring.register_event_duration_secs_listener(listen)
    start = time.monotonic()
    try:
        yield
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
        wall = time.monotonic() - start
        if distributed.is_leader() and workdir.exists():
            _add(workdir / "timing.json", stage, wall, compiling[0])


def _stages(file):
    """What timing.json holds so far."""
    stages = read_json(file) if file.exists() else {}
    numbers = [isinstance(s, dict) and isinstance(s.get(k), int | float) for s in stages.values() for k in _SECONDS]
    if not all(numbers):
        raise damaged(file, "it holds other things than seconds")
    return stages


def _add(file, stage, wall, compiling):
    stages = _stages(file)
    entry = stages.setdefault(stage, dict.fromkeys(_SECONDS, 0))
    entry["wall_s"] = round(entry["wall_s"] + wall, 2)
    entry["compile_s"] = round(entry["compile_s"] + compiling, 2)
    entry["device_s"] = round(entry["device_s"] + wall * jax.device_count(), 2)
    with replacing(file) as stream:
        json.dump(stages, stream, indent=1)


def keep(file: Path, make: Callable[[], Any]) -> Any:
    """What the JSON file holds; if it is not there yet, what `make` returns, kept in it."""
    if not distributed.broadcast(file.exists()):
        content = make()
        if distributed.is_leader():
            with replacing(file) as stream:
                json.dump(content, stream)
        distributed.barrier(file.name)
    return read_json(file, object)


def keep_originals(file: Path, pixels: np.ndarray, names: Sequence[str], skipped: Sequence[str]) -> None:
    """Write the private images beside their reconstructions, for the report.

    Args:
      file: .npz.
      pixels: uint8 [N, H, W, C].
      names: one for each image.
      skipped: the damaged files, for the report.

    Raises:
      InputError: an earlier part of this run evaluated other images.
    """
    if distributed.broadcast(file.exists()):
        if not np.array_equal(read_arrays(file)["pixels"], pixels):
            raise InputError(
                f"The private images are not those that {file.parent.parent} began with; "
                "restore them, or give another --workdir."
            )
    elif distributed.is_leader():
        with replacing(file, "wb") as stream:
            np.savez(stream, pixels=pixels, names=names, skipped=skipped)
