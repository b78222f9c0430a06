"""Inputs that are known to be right or wrong: a wrong one that is accepted is a fault, and so is a right one that is refused.

The other kinds of the soak do not know what they give; these do: calls of the Python API, values of every field of a config,
misspelt fields and flags, flags of trainers and clusters, points of a sweep. Of a damaged file what is read must be what was
written, or refused.
"""

import contextlib
import functools
import hashlib
import io
import math
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import jax
import numpy as np

import dci_jax
from benchmarks.soak import doors, known_api, known_commands
from benchmarks.soak.damage import damaged
from configs import audit, default, quickstart
from dci_jax import models
from dci_jax.api import auditing
from dci_jax.check import check
from dci_jax.data import images
from dci_jax.errors import InputError
from dci_jax.evaluation import recorded
from dci_jax.importers import bundle
from dci_jax.main import main as program
from dci_jax.settings.fields import FIELDS


class Accepted(Exception):
    """What is known to be wrong was accepted."""


class Refused(Exception):
    """What is known to be right was refused."""


def judged(what: str, wrong: bool, call: Callable[[], object]) -> Callable[[], object]:
    """The call; raises `Accepted` or `Refused` where it ends the other way."""

    def read():
        try:
            with contextlib.suppress(doors.Begun):
                call()
        except InputError as error:
            if not wrong:
                raise Refused(f"{what}: {error}") from error
            raise
        if wrong:
            raise Accepted(what)

    return read


_STOPPED = (
    "dci_jax.api.chains.dci",
    "dci_jax.api.chains.dci_trained",
    "dci_jax.api.auditing.run",
    "dci_jax.attacks.feature_matching.match",
    "dci_jax.attacks.gauss_newton.solve",
    "dci_jax.inputs.prior.minimize",
    "dci_jax.inputs.synthesis.synthesize",
    "dci_jax.api.networks.score",
    "dci_jax.defenses.learned.minimize",
)


def calls(rng: random.Random, folder: Path) -> Callable[[], object]:
    """The Python API: right arguments, and in two of three calls one wrong one (`known_api`)."""
    del folder
    what, wrong, call = known_api.call(rng, rng.number // len(KINDS))
    known_api.learned("first"), known_api.learned("second"), known_api.chain()  # before learning is stopped

    def stopped():
        with contextlib.ExitStack() as stack:
            for each in _STOPPED:
                stack.enter_context(mock.patch(each, doors.begin))
            call()

    return judged(what, wrong, stopped)


_NAMES = (
    "target.name",
    "synthesis.start",
    "synthesis.precision",
    "dci_trained.distance",
    "oracle.attack",
    "verifier.name",
)
_PATHS = (
    "data.images",
    "data.labels",
    "features",
    "target.weights",
    "audit.previous",
    "oracle.images",
    "defense.images",
)


def wrong_values(field: str) -> tuple:
    """Values that are wrong for a field by its kind alone: of another type, not finite, negative, unknown, not there."""
    value = FIELDS[field].default
    if isinstance(value, bool):
        return 3, "x", "True", None, (), 0.5, math.nan
    if isinstance(value, int):
        return "x", "3", None, True, (), (1,), {}, 1.5, -1, math.nan, math.inf, -math.inf, 2**70
    if isinstance(value, float):
        endless = () if field == "dci_trained.conquer_clip" else (math.inf,)
        return "x", "0.5", None, True, (), (0.5,), {}, -0.1, math.nan, -math.inf, *endless
    if isinstance(value, str):
        absent = ("nowhere", "No such") if field in _NAMES else ("/nowhere/x.npz", "\0") if field in _PATHS else ()
        return 3, 0.5, True, (), ("x",), {}, b"x", *absent
    return 3, "x", None, True, math.nan, {}, (None,), ((),), ({},), (math.nan,), ((("x",),),), (b"x",)


def fields(rng: random.Random, folder: Path) -> Callable[[], object]:
    """A field of a config with a value that its kind rules out, or a misspelt field; one in ten is right."""
    del folder
    given = rng.choice([default, audit, quickstart]).get_config()
    pairs = [(field, value) for field in FIELDS for value in wrong_values(field)]
    field, value = pairs[rng.number // len(KINDS) % len(pairs)]
    if rng.random() < 0.05:
        return judged("a config as it comes", False, functools.partial(check, given))
    if rng.random() < 0.1:
        section, _, name = field.rpartition(".")
        flag = f"--config.{f'{section}.' if section else ''}{misspelt(rng, name)}=1"
        return judged(flag, True, functools.partial(doors.command, lambda: program(["x", *_run(flag)])))

    def tried():
        auditing._set(given, {field: value})
        check(given)

    return judged(f"{field}={value!r}", True, tried)


def _run(*more):
    return [f"--config={Path(default.__file__)}", "--workdir=/nowhere/w", *more]


def misspelt(rng: random.Random, name: str) -> str:
    """One letter more, less, or another; never the name of another field."""
    known = {field.rpartition(".")[2] for field in FIELDS} | {field.partition(".")[0] for field in FIELDS}
    while True:
        at, kind = rng.randrange(len(name)), rng.randrange(3)
        new = name[:at] + rng.choice(["", "x", "q", "_"][kind > 0 :]) + name[at + (kind < 2) :]
        if new not in known and new:
            return new


def commands(rng: random.Random, folder: Path) -> Callable[[], object]:
    """Command lines with one wrong argument, or right ones (`known_commands`)."""
    return judged(*known_commands.call(rng, folder))


def _equal(a, b):
    return jax.tree.all(jax.tree.map(lambda x, y: np.array_equal(x, y), a, b))


@functools.cache
def _dump():
    stream = io.BytesIO()
    features = np.random.default_rng(0).normal(size=(2, 32, 32, 16)).astype(np.float32)
    np.savez(stream, features=features, split="layer1.0")
    return stream.getvalue()


@functools.cache
def _pixels():
    return np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)


@functools.cache
def _packed():
    stream = io.BytesIO()
    np.savez(stream, images=_pixels(), labels=np.arange(4))
    return stream.getvalue()


@functools.cache
def _weights():
    path = Path(models.__file__).parent / "cifar_resnet20.safetensors"
    return path.read_bytes()


def files(rng: random.Random, folder: Path) -> Callable[[], object]:
    """A damaged file: what is read is what was written, or it is refused."""
    network = dci_jax.load_network("cifar_resnet20")
    digest = hashlib.sha256(_weights()).hexdigest()
    kinds = {
        "npz of images": (_packed, ".npz", lambda p: images.load(str(p), (8, 8, 3)).pixels, _pixels),
        "recorded features": (
            *(_dump, ".npz", lambda p: recorded.read_dump(p, network)[1]),
            lambda: np.load(io.BytesIO(_dump()))["features"],
        ),
        "a chain": (
            *(doors.saved_chain, ".safetensors", lambda p: _solved(dci_jax.load_chain(p, doors.small()))),
            lambda: _solved(_undamaged_chain()),
        ),
        "weights with their sha256": (
            *(_weights, ".safetensors", lambda p: dci_jax.load_network("cifar_resnet20", p, sha256=digest)),
            lambda: network,
        ),
    }
    kind = rng.choice([*kinds, "a bundle"])
    if kind == "a bundle":
        for name in (bundle.MANIFEST, bundle.WEIGHTS):
            (folder / name).write_bytes((doors.VIT / name).read_bytes())
        victim = folder / rng.choice([bundle.MANIFEST, bundle.WEIGHTS])
        victim.write_bytes(damaged(rng, victim.read_bytes()))
        read, path, right = (
            (lambda p: jax.tree.leaves(bundle.load(p))),
            folder,
            lambda: jax.tree.leaves(bundle.load(doors.VIT)),
        )
    else:
        content, suffix, read, right = kinds[kind]
        path = folder / f"x{suffix}"
        path.write_bytes(damaged(rng, content()))

    def tried():
        if not _equal(jax.tree.leaves(read(path)), jax.tree.leaves(right())):
            raise Accepted(f"{kind}, damaged, was read as something else")

    return tried


@functools.cache
def _undamaged_chain():
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "x.safetensors").write_bytes(doors.saved_chain())
        return dci_jax.load_chain(Path(folder) / "x.safetensors", doors.small())


def _solved(chain):
    return [kernel for each in chain.inverters for kernel in each.kernels]


KINDS = {"Python API": calls, "field": fields, "command line": commands, "damaged file": files}
