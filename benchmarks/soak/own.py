"""What a user's own Python brings: networks, attacks, defenses and priors in modules, the functions of the API; and special files.

Each kind is (rng, folder) -> what tries one case, as in `soak.doors`.
"""

import contextlib
import importlib
import itertools
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import jax
import numpy as np

import dci_jax
from benchmarks.soak.doors import ODD, Begun, begin, small
from configs import default
from dci_jax.check import check
from dci_jax.data import images, labels
from dci_jax.evaluation import recorded

MODULES = itertools.count()
FUNCTIONS = (
    *("", "x = (", "raise ValueError('a')", "import sys; sys.exit(0)", "import nowhere", "import os; os.abort", "\x00"),
    *("f = 3", "f = None", "def f(): pass", "def f(a): return a", "def f(a, b): return 3", "def f(a, b): return None"),
    "def f(a, b): raise KeyError('a')",
    "def f(a, b): return b.sum((1, 2, 3)) * float('nan')",
    "def f(a, b): return b.sum()",
    "def f(a, b): return b.sum((1, 2, 3))",
    "def f(*a, **b): return a",
    "class f: pass",
    "from dci_jax.network import Network\ndef f(source): return Network((), None, 'x', (8, 8, 3))",
    "import dci_jax\ndef f(source): return dci_jax.sequential('x', (8, 8, 3), [('a', lambda p, x: x, {})])",
    "import dci_jax\ndef f(source): return dci_jax.sequential('x', (8, 8, 3), [('a', lambda p, x: x.sum(), {})])",
    "import dci_jax\ndef f(source): return dci_jax.sequential('x', (8, 8, 3), [('a', lambda p, x: x.astype(int), {})])",
    "import dci_jax\ndef f(source): return dci_jax.sequential('x', (8, 8, 3), [('a', lambda p, x: x * 0, {})])",
    "import dci_jax\ndef f(source): return dci_jax.sequential('x', (8, 8, 3), [('a', lambda p, x: x / 0, {})])",
    "import dci_jax\ndef f(source): return dci_jax.sequential('x', (0, 8, 3), [('a', lambda p, x: x, {})])",
    "import dci_jax\ndef f(source): return dci_jax.sequential('x', (8, 8, 3), [('a', lambda p, x: x, {})], (lambda p, x: x, {}))",
    "import dci_jax\nf = dci_jax.Defense(lambda *a: None, lambda *a: None)",
    "import dci_jax\nf = dci_jax.Defense(lambda p, k, f, s: f, lambda p, f, s, r, n: f)",
    "import dci_jax\nf = dci_jax.Defense(lambda p, k, f, s: f[:1], lambda p, f, s, r, n: f)",
    "import dci_jax\nf = dci_jax.Defense(lambda p, k, f, s: 1 / 0, lambda p, f, s, r, n: f)",
    "import dci_jax\nf = dci_jax.Attack(lambda *a, **b: {}, 'mine')",
    "import dci_jax\nf = dci_jax.Attack(3, 'mine')",
    "import dci_jax\nf = dci_jax.Attack(lambda network, inputs, splits, key, folder: {}, 'mine')",
)


def modules(rng: random.Random, folder: Path) -> Callable[[], object]:
    """An own network, attack, defense or prior in a module that is right or wrong; checked as before a run."""
    name = f"soak_own_{next(MODULES)}"
    where = rng.choice(["target", "defense", "attack", "prior"])
    word = {"target": "sequential", "defense": "Defense", "attack": "Attack", "prior": "f(a, b)"}[where]
    fitting = [text for text in FUNCTIONS if word in text]
    (folder / f"{name}.py").write_text(rng.choice(fitting if rng.random() < 0.7 else FUNCTIONS) + "\n")
    own = rng.choice([*[f"{name}:f"] * 16, f"{name}:g", f"{name}:", f":{name}", f"{name}:f:f", "a b:f"])
    given = default.get_config()
    if where == "target":
        given.target.name = own
        given.target.sha256 = rng.choice(["", "", "0" * 64, "x"])
    elif where == "defense":
        given.defenses = ((own, rng.choice([0.0, 1.0, -1.0])),)
    elif where == "attack":
        given.attacks = (own,)
    else:
        given.attacks = ("rmle",)
        given.rmle.update(prior=own, prior_weight=1.0)

    def read():
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()
        try:
            check(given)
        finally:
            sys.path.remove(str(folder))
            sys.modules.pop(name, None)

    return read


def special(rng: random.Random, folder: Path) -> Callable[[], object]:
    """FIFOs, devices, folders, links that lead nowhere and impossible names, where a file of any kind is expected."""
    suffix = rng.choice(["", ".npz", ".zip", ".csv", ".png", ".safetensors", ".pth", ".onnx"])
    path = folder / f"x{suffix}"
    kind = rng.randrange(8)
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        path.symlink_to(
            rng.choice(["/dev/zero", "/dev/random", "/dev/null", "/dev/full", "/proc/self/mem", "/dev/tty"])
        )
    elif kind == 2:
        path.symlink_to(rng.choice([path, folder / "nowhere"]))
    elif kind == 3:
        path.mkdir()
    elif kind == 4:
        path = Path(f"{folder}/x\0{suffix}")
    elif kind == 5:
        path = Path(f"{folder}/" + "x" * 300 + suffix)
    elif kind == 6:
        path = Path(os.fsdecode(bytes(folder) + b"/\xff\xfe" + suffix.encode()))
        path.write_bytes(rng.randbytes(20))
    else:
        path.write_bytes(b"")
    where = rng.choice(["images", "labels", "features", "weights", "bundle", "chain", "onnx", "config"])
    given = default.get_config()

    def asked():
        given.data.images = str(path)
        check(given)

    doors = {
        "images": lambda: images.load(str(path), (8, 8, 3)),
        "labels": lambda: labels.read_labels(path),
        "features": lambda: recorded.read_dump(path, dci_jax.load_network("cifar_resnet20")),
        "weights": lambda: dci_jax.load_network("cifar_resnet20", str(path)),
        "bundle": lambda: dci_jax.load_network("bundle", str(path)),
        "chain": lambda: dci_jax.load_chain(path, small()),
        "onnx": lambda: dci_jax.from_onnx(path),
        "config": asked,
    }
    return doors[where]


def calls(rng: random.Random, folder: Path) -> Callable[[], object]:
    """The Python API with one or two arguments of a wrong value, type or shape."""
    network, prior = small(), dci_jax.Prior((), (("pink_noise", 1.0),), (8, 8, 3))
    right = np.full((2, 8, 8, 8), 0.5, np.float32)
    strange = (
        *ODD[:12],
        None,
        "",
        "x",
        (),
        (1,),
        right,
        right[0],
        right.transpose(0, 3, 1, 2)[:, :4],
        right * np.nan,
        network,
    )
    key = jax.random.key(0)
    usual = {
        "solve_chain": dict(network=network, split="second", prior=prior, key=key, num_images=16, num_corrections=1),
        "fit_prior": dict(network=network, key=key, num_steps=3, batch_size=4),
        "optimize": dict(network=network, split="second", features=right, num_steps=3),
        "gauss_newton": dict(network=network, split="second", features=right, num_steps=1, num_conjugate=2),
        "learn_defense": dict(network=network, split="second", kind="quantize", strength=4.0, prior=prior, key=key),
        "features_at": dict(network=network, split="second", x=right[..., :3]),
        "load_network": dict(name="cifar_resnet20", weights="", sha256="", side=0),
        "split_points": dict(network=network),
        "with_side": dict(network=network, side=16),
        "leakage_scores": dict(network=network, key=key),
    }
    name = rng.choice(list(usual))
    given = dict(usual[name])
    for argument in rng.sample(sorted(set(given) - {"network"}) or ["network"], 1):
        given[argument] = rng.choice(strange)
    if rng.random() < 0.3:
        given[rng.choice(["num_images", "kernel_size", "total_variation", "seed", "batch_size", "side", "start"])] = (
            rng.choice(strange)
        )
    function = getattr(dci_jax, name)

    def read():
        stopped = (
            mock.patch("dci_jax.api.chains.dci", begin),
            mock.patch("dci_jax.attacks.feature_matching.match", begin),
            mock.patch("dci_jax.attacks.gauss_newton.solve", begin),
            mock.patch("dci_jax.inputs.prior.minimize", begin),
        )
        with contextlib.ExitStack() as stack, contextlib.suppress(Begun):
            for each in stopped:
                stack.enter_context(each)
            try:
                function(**given)
            except TypeError as error:  # Python's own sentence about arguments that a function does not have
                if "unexpected keyword argument" not in str(error):
                    raise

    return read


KINDS = {"own module": modules, "special file": special, "Python API": calls}
