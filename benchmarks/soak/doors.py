"""The doors beside the main line: bundles edited and signed again, chains, sweeps, jobs, trainers, reports, own modules, special files.

Each kind is (rng, folder) -> what tries one case: it returns, or raises InputError with one sentence. Where training or solving
would begin the case is over, and counts as a result.
"""

import contextlib
import csv
import functools
import io
import json
import math
import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import safetensors.numpy

import dci_jax
from benchmarks.soak.damage import damaged
from dci_jax.dci import chain_file
from dci_jax.errors import InputError
from dci_jax.importers import bundle
from dci_jax.models import trial
from dci_jax.report.__main__ import main as report
from launch import jobset, sweep
from training import generator, target

VIT = Path(__file__).parent.parent / "results" / "networks_vit" / "bundle"
NUMBERS = ("0", "1", "-1", "3", "1e3", "1e309", "nan", "inf", "-inf", "", "x", "0x10", "2147483648", "1.5", "\x00", "é")
ODD = (
    0,
    1,
    -1,
    2,
    7,
    10**9,
    2**63,
    0.5,
    math.nan,
    math.inf,
    -math.inf,
    True,
    None,
    "",
    "x",
    "image",
    [],
    {},
    [0],
    [[]],
)


class Begun(BaseException):
    """Work would begin here: all that could be refused was not."""


def begin(*_, **__):
    """In the place of a training or a solve."""
    raise Begun


def command(call: Callable[[], int | None]) -> None:
    """Run a command line; InputError with what it said last where it ends with 2."""
    said = io.StringIO()
    code = 0
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = call() or 0
        except SystemExit as error:
            code = error.code or 0
    assert code in (0, 1, 2), f"exit code {code}: {said.getvalue()}"
    assert "Traceback" not in said.getvalue(), said.getvalue()
    if code:
        lines = said.getvalue().strip().splitlines() or ["nothing was said"]
        raise InputError(lines[-1] if lines[-1].endswith((".", ")")) else lines[-1] + ".")


def signed(rng: random.Random, folder: Path) -> Callable[[], object]:
    """A bundle whose manifest was edited and signed again."""
    manifest = json.loads((VIT / bundle.MANIFEST).read_text())
    for _ in range(rng.choice([1, 1, 2, 3])):
        _edit(rng, manifest)
    manifest["sha256"] = bundle.digest(manifest)
    (folder / bundle.MANIFEST).write_text(json.dumps(manifest))
    with contextlib.suppress(FileExistsError):
        (folder / bundle.WEIGHTS).symlink_to(VIT / bundle.WEIGHTS)

    def read():
        trial.check_shapes(bundle.load(folder))

    return read


def _edit(rng, manifest):
    """One value, somewhere in it, becomes another, goes, or comes twice."""
    at, key = manifest, rng.choice([k for k in manifest if k != "sha256"])
    while isinstance(at[key], dict | list) and at[key] and rng.random() < 0.8:
        at = at[key]
        key = rng.choice(list(at)) if isinstance(at, dict) else rng.randrange(len(at))
    how = rng.random()
    if how < 0.6:
        at[key] = rng.choice(ODD)
    elif how < 0.75:
        del at[key]
    elif isinstance(at, list):
        other = rng.randrange(len(at))
        if how < 0.9:
            at[key], at[other] = at[other], at[key]
        else:
            at.insert(other, at[key])
    else:
        at[f"{key}2"] = at[key]


@functools.cache
def small() -> dci_jax.Network:
    """Two convolutions and a head."""
    rng = np.random.default_rng(0)
    weights = [np.float32(rng.normal(0, 0.3, shape)) for shape in ((3, 3, 3, 8), (3, 3, 8, 8))]

    def conv(w, x):
        return jax.nn.relu(
            jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        )

    head = (lambda w, x: x.mean((1, 2)) @ w, np.float32(rng.normal(0, 1, (8, 5))))
    return dci_jax.sequential("small", (8, 8, 3), [("first", conv, weights[0]), ("second", conv, weights[1])], head)


@functools.cache
def saved_chain() -> bytes:
    """A chain, solved once."""
    prior = dci_jax.Prior((), (("pink_noise", 1.0),), (8, 8, 3))
    few = dict(num_images=16, num_validation=8, batch_size=8, num_corrections=1, samples_per_unknown=1)
    chain = dci_jax.solve_chain(small(), "second", prior, key=jax.random.key(0), progress=False, **few)
    with tempfile.TemporaryDirectory() as folder:
        chain.save(Path(folder) / "chain.safetensors")
        return (Path(folder) / "chain.safetensors").read_bytes()


def chains(rng: random.Random, folder: Path) -> Callable[[], object]:
    """A chain's file, damaged, or of other numbers in its description."""
    content = saved_chain()
    if rng.random() < 0.5:
        content = damaged(rng, content)
    else:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        about = json.loads(header["__metadata__"]["about"])
        _edit(rng, about | {"sha256": ""} if rng.random() < 0.1 else about)
        if rng.random() < 0.9:  # signed again, as an attacker would
            about["sha256"] = chain_file._digest(about, safetensors.numpy.load(content))
        header["__metadata__"]["about"] = json.dumps(about)
        new = json.dumps(header).encode()
        content = len(new).to_bytes(8, "little") + new + content[8 + length :]
    path = folder / "chain.safetensors"
    path.write_bytes(content)

    def read():
        chain = dci_jax.load_chain(path, small())
        found = chain(np.ones((1, 8, 8, 8), np.float32))
        assert found.shape == (1, 8, 8, 3)

    return read


SWEPT = (
    *(
        "",
        "import nowhere\n",
        "x = (\n",
        "raise KeyError('a')\n",
        "import sys; sys.exit(0)\n",
        "\x00",
        "get_hyper = 3\n",
    ),
    "from configs.tiny import get_config\n",
    "def get_config(): return 3\n",
    "def get_config(a, b): pass\n",
    "def get_config(): raise SystemExit\n",
)
POINTS = (
    *("hyper.product([hyper.sweep('config.seed', range(2))])", "[]", "None", "3", "'x'", "[3]", "[{}]", "[{}, {}]"),
    *("[{'config.seed': 1}]", "[{'config.sed': 1}]", "[{'seed': 1}]", "[{'config.seed': 1}] * 2", "[{3: 4}]"),
    *("[{'config.dci.num_images': s} for s in ('a b', 'a/b', 'a_b')]", "hyper.zipit([])", "1 / 0", "exit(0)"),
    *("hyper.zipit([hyper.sweep('config.seed', [1]), hyper.sweep('config.batch', [1, 2])])", "({'config.seed': 1},)"),
)


def sweeps(rng: random.Random, folder: Path) -> Callable[[], object]:
    """A sweep's config and its flags; nothing is started."""
    path = folder / "swept.py"
    text = rng.choice(SWEPT)
    if rng.random() < 0.7:
        text = f"from configs.tiny import get_config\ndef get_hyper(hyper): return {rng.choice(POINTS)}\n"
    path.write_text(text)
    words = [rng.choice(["local", "local", "slurm", "kubernetes", "status", "point", "point", "nowhere"])]
    words += [f"--config={rng.choice([*[path] * 8, f'{path}:x', folder, '', '/dev/null', 'none.py'])}"]
    words += [f"--workdir={folder / 'w'}"] * (rng.random() < 0.95)
    words += [f"--jobs={rng.choice(NUMBERS)}"] * (rng.random() < 0.2)
    if words[0] == "point":
        words += [f"--index={rng.choice(['0', '0', *NUMBERS])}"] * (rng.random() < 0.9)
    words += _cluster(rng) if words[0] == "kubernetes" or rng.random() < 0.1 else []
    words += ["--dry_run"] * (words[0] != "point")

    def read():
        with mock.patch.object(os, "execv", begin), contextlib.suppress(Begun):
            command(lambda: sweep.main(words))

    return read


def _cluster(rng):
    """Some flags of a cluster."""
    given = []
    for flag, right in (("image", "registry/dci_jax:1"), ("claim", "runs"), ("name", "audit"), ("accelerator", "gpu")):
        if rng.random() < 0.7:
            value = (
                right if rng.random() < 0.6 else rng.choice(["", "A", "-", "a b", "../x", "x" * 300, "é", "tpu", "\n"])
            )
            given.append(f"--{flag}={value}")
    return given


def jobs(rng: random.Random, folder: Path) -> Callable[[], object]:
    """A manifest for Kubernetes."""
    words = _cluster(rng)
    words += [f"--hosts={rng.choice(NUMBERS)}"] * (rng.random() < 0.5)
    words += [f"--config={rng.choice(['configs/tiny.py', 'configs/tiny.py:x', '', 'none.py', '/etc', '..'])}"]
    words += [f"--workdir={rng.choice(['/runs/a', '/runs', '/runs/../etc', 'runs/a', '', '/', str(folder)])}"]
    words += rng.sample(
        ["--config.seed=1", "--seed=1", "x", "--", "--config.splits=('a',)", "--name"], rng.randint(0, 2)
    )
    return lambda: command(lambda: jobset.main([*words, "--dry_run"]))


@functools.cache
def labelled() -> Path:
    """An npz of 40 small pictures in 2 classes, for the trainers."""
    path = Path(tempfile.mkdtemp()) / "x.npz"
    np.savez(path, images=np.zeros((40, 32, 32, 3), np.uint8), labels=np.arange(40) % 2)
    return path


def trainers(rng: random.Random, folder: Path) -> Callable[[], object]:
    """Arguments of the trainers; none gets as far as a step."""
    of_target = rng.random() < 0.5
    files = [*[labelled()] * 12, folder, folder / "no.npz", "/dev/null", "", "\0"]
    words = [f"--{name}_images={rng.choice(files)}" for name in ("train", "test") if rng.random() < 0.95]
    flags = ["epochs", "statistics_batches", "weight_decay"] if of_target else ["steps", "ema", "ngf", "ndf", "samples"]
    words += ["--batch=8", *(["--model=he_cnn"] if of_target else ["--ngf=8", "--ndf=8"])]  # small ones
    for flag in rng.sample([*flags, "batch", "learning_rate", "seed"], rng.choice([0, 0, 1, 2])):
        words.append(f"--{flag}={rng.choice(NUMBERS)}")
    place = rng.choice([*[folder / "o"] * 8, folder, "", "/dev/null/x", folder / "no" / "o", "/proc/x"])
    words.append(f"--{'out' if of_target else 'workdir'}={place}")
    words += [f"--model={rng.choice(['he_cnn', 'resnet50', 'sngan_32', '', 'x'])}"] * (of_target and rng.random() < 0.3)
    if of_target:
        stops = (mock.patch.object(target, "minimize", begin),)
        main = target.main
    else:
        stops = (mock.patch.object(generator, name, begin) for name in ("step", "Checkpointer"))
        main = generator.main

    def read():
        with contextlib.ExitStack() as stack, contextlib.suppress(Begun):
            for each in stops:
                stack.enter_context(each)
            command(lambda: main(words))

    return read


@functools.cache
def finished() -> Path:
    """A finished run's folder, made once by the command line's own functions."""
    folder = Path(tempfile.mkdtemp()) / "run"
    pixels = np.random.default_rng(0).uniform(0, 1, (4, 8, 8, 3)).astype(np.float32)
    quick = {"inputs.dead_leaves": 0.0, "inputs.pink_noise": 1.0, "dci.num_images": 16, "dci.samples_per_unknown": 1}
    given = dict(splits=("first", "second"), defenses=(("gaussian", 1.0), ("none", 0.0)), attacks=("dci",))
    dci_jax.audit(small(), pixels, settings=quick, progress=False, **given).save(folder)
    return folder


def reports(rng: random.Random, folder: Path) -> Callable[[], object]:
    """The report of a run with a damaged file or a damaged number, alone or beside another run."""
    for name in ("a", "b"):
        for file in finished().rglob("*"):
            if file.is_file():
                new = folder / name / file.relative_to(finished())
                new.parent.mkdir(parents=True, exist_ok=True)
                new.write_bytes(file.read_bytes())
    victim = rng.choice([f for f in sorted((folder / "a").rglob("*")) if f.is_file()])
    how = rng.random()
    if victim.suffix == ".csv" and how < 0.7:
        rows = list(csv.reader(victim.open()))
        line = rng.choice(rows)
        line[rng.randrange(len(line))] = rng.choice(["nan", "", "x", "1e999", "-1", "=cmd()", "<b>", "\x01", "9" * 400])
        rows += rows[-1:] * (rng.random() < 0.2)
        csv.writer(victim.open("w")).writerows(rows)
    elif victim.suffix == ".json" and how < 0.5:
        content = json.loads(victim.read_text())
        if isinstance(content, dict) and content:
            _edit(rng, content)
        victim.write_text(json.dumps(content))
    elif how < 0.8 and victim.stat().st_size:
        victim.write_bytes(damaged(rng, victim.read_bytes()))
    else:
        victim.unlink()
        if how > 0.9:
            victim.mkdir()
    words = [str(folder / "a"), *([str(folder / "b")] if rng.random() < 0.4 else [])]
    words += [f"--out={rng.choice([folder / 'o', folder / 'a', '', '/dev/null/x', victim])}"] * (rng.random() < 0.4)
    return lambda: command(lambda: report(words))


KINDS = {
    "bundle, signed again": signed,
    "chain": chains,
    "sweep": sweeps,
    "jobset": jobs,
    "trainer": trainers,
    "report": reports,
}
