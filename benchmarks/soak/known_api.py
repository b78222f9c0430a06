"""Calls of the Python API that are known to be right, and each with one argument that is known to be wrong.

`CALLS` names a function's arguments by role; `ROLES` gives a role's right values and its wrong ones. The network's features are
[4, 5, 12] at its second split point, so that no order of the axes passes for another.
"""

import functools
import math
import random
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import dci_jax
from dci_jax.defenses.channel import NONE

SHAPE, FEATURES = (8, 10, 3), (4, 5, 12)
_NOT_NUMBERS = ("", "x", "3", None, True, (), [3], {}, np.ones(2), 1j, math.nan, math.inf, -math.inf)
_NOT_NAMES = (None, 0, 1.5, True, b"first", ("first",), ["first"], {}, np.ones(2))


@functools.cache
def network(seed: int = 0, name: str = "uneven") -> dci_jax.Network:
    """Two convolutions, the second with stride 2, and a head of 5 classes; images are not square."""
    rng = np.random.default_rng(seed)
    weights = [np.float32(rng.normal(0, 0.3, shape)) for shape in ((3, 3, 3, 6), (3, 3, 6, 12))]
    head = (lambda w, x: x.mean((1, 2)) @ w, np.float32(rng.normal(0, 1, (12, 5))))
    return dci_jax.sequential(name, SHAPE, [("first", _conv(1), weights[0]), ("second", _conv(2), weights[1])], head)


def _conv(stride):
    def apply(w, x):
        axes = ("NHWC", "HWIO", "NHWC")
        return jax.nn.relu(jax.lax.conv_general_dilated(x, w, (stride, stride), "SAME", dimension_numbers=axes))

    return apply


def prior(shape: tuple[int, ...] = SHAPE, weights: tuple = (("pink_noise", 1.0),), pool=()) -> dci_jax.Prior:
    """Noise of that shape."""
    return dci_jax.Prior(pool, weights, shape)


@functools.cache
def learned(split: str) -> object:
    """A defense of one split point, which does not suit the other."""
    return dci_jax.learn_defense(network(), split, "prune_channels", 0.5, prior(), key=jax.random.key(0), num_steps=1)


def _whole(least, *wrong):
    right = (least, least + 1, np.int64(least + 2))
    return right, (*_NOT_NUMBERS, least - 1, -1, least + 0.5, 10**30, *wrong)


def _real(right, *wrong):
    return right, (*_NOT_NUMBERS, *wrong)


def _array(shape, *wrong):
    """Arrays [2, *shape], and what is none or has other axes, numbers or types."""
    x = np.random.default_rng(0).uniform(0.1, 0.9, (2, *shape)).astype(np.float32)
    text, objects = np.full((2, *shape), "x"), np.full((2, *shape), None)
    other = (x[0], x[:, :-1], x[..., :-1], x.transpose(0, 3, 1, 2), x.transpose(0, 2, 1, 3), x[None], x.ravel())
    numbers = (x * np.nan, np.where(x > 0.8, np.inf, x), x.astype(complex))
    return (x, 0.5 * x, jnp.asarray(x)), (*other, *numbers, text, objects, None, "x", 3, {}, [], network(), *wrong)


def is_nan(value: object) -> bool:
    """Numbers that are not finite, of which a metric is NaN."""
    return getattr(value, "dtype", None) == np.float32 and not np.isfinite(value).all()


@functools.cache
def roles() -> dict[str, tuple[tuple, tuple]]:
    """role -> (right values, wrong values)."""
    key, bytes_ = jax.random.key(3), np.full((5, *SHAPE), 200, np.uint8)
    floats = np.full((2, *SHAPE), 0.5, np.float32)
    own = network()
    priors = (
        *(prior((16, 16, 3)), prior((8, 10, 1)), prior((8, 10)), prior((100,)), prior((0, 10, 3))),
        *(prior(weights=()), prior(weights=(("nowhere", 1.0),)), prior(weights=(("pink_noise", -1.0),))),
        *(prior(weights=(("pink_noise", math.nan),)), prior(weights=(("synthetic", 1.0),)), prior(weights=3)),
        prior(weights=(("synthetic", 1.0),), pool=floats),  # not uint8
        prior(weights=(("synthetic", 1.0),), pool=bytes_[:, :4]),  # smaller than the prior's images
    )
    return {
        "network": ((own,), (None, "cifar_resnet20", 3, dci_jax.Network, own.blocks, own.blocks[0], {}, floats)),
        "split": (
            ("first", "second", np.str_("second")),
            (*_NOT_NAMES, "", "third", "First", " first", "second ", "first.second", "head", "0"),
        ),
        "split or number": (
            ("first", "second", 0, 2),
            (None, 1.5, True, b"first", ("first",), ["first"], {}, "", "third", "0", 3, -1),
        ),
        "second": (("second",), ()),
        "key": (
            (key, jax.random.PRNGKey(1)),
            (None, 0, "x", True, jax.random.split(key, 3), np.zeros(2, np.int64), np.zeros(3, np.uint32), [0, 1], 0.5),
        ),
        "prior": ((prior(), prior((8, 8, 3))), (None, "dead_leaves", own, {}, 3, floats, *priors)),
        "defense": ((NONE, learned("second")), (None, "gaussian", ("gaussian", 0.5), 3, learned("first"), own, True)),
        "features": _array(FEATURES, np.ones((2, *FEATURES), bool)),
        "images": _array(SHAPE, bytes_, 255 * floats, 6 * floats, -floats, np.ones((2, *SHAPE), bool)),
        "truth": (_array(SHAPE)[0], tuple(w for w in _array(SHAPE, bytes_, 255 * floats)[1] if not is_nan(w))),
        "estimates": (_array(SHAPE)[0], tuple(w for w in _array(SHAPE, bytes_, 255 * floats)[1] if not is_nan(w))),
        "latents": (
            (np.ones((2, 5), np.float32),),
            (
                np.ones((2, 6), np.float32),
                np.ones((1, 5), np.float32),
                np.ones(5, np.float32),
                None,
                3,
                "x",
                bytes_,
                own,
            ),
        ),
        "start": ((None, floats), (*_array(SHAPE)[1][:9], floats[:1], 255 * floats, "x", 3, {}, own)),
        "images of 16": _whole(16),
        "images of 8": _whole(8),
        "count": _whole(1),
        "count or none": (_whole(1)[0], tuple(w for w in _whole(1)[1] if w is not None)),
        "count or 0": _whole(0),
        "kernel": ((1, 3, 5, 7), (*_NOT_NUMBERS, 0, 2, 4, 8, 9, -1, 3.5, (3, 3))),
        "unknowns": (((100, 100), [200, 100]), (*_NOT_NUMBERS[:-3], 100, (1,), (1, 2, 3), ("x", 1), (0, 1), (1, -5))),
        "rate": _real((0.01, 1, np.float32(0.1)), 0, -1, 11),
        "weight": _real((0, 0.5, 3), -0.1, [0.5]),
        "positive": _real((0.5, 3), 0, -0.1),
        "share": _real((0.5, 1, 0.01), 0, -0.5, 1.5),
        "no weight": ((0, 0.0), (0.5, 1, -1, math.nan, "x")),
        "mixture": (
            ((("dead_leaves", 0.8), ("pink_noise", 0.2)), [("white_noise", 2)]),
            (
                *((), 3, None, "x", (("nowhere", 1.0),), (("dead_leaves", -1.0),), (("dead_leaves", math.nan),)),
                *(
                    (("dead_leaves", math.inf),),
                    (("dead_leaves", "x"),),
                    (("dead_leaves", None),),
                    (("dead_leaves", 0),),
                ),
                *((("synthetic", 1.0),), (("dead_leaves",),), (3, 4), (("dead_leaves", 1), ("dead_leaves", 2))),
            ),
        ),
        "padding": (((0,), (0, 2), [1]), (4, "04", None, (-1,), (1.5,), (50,), (None,), ((0,),), ("x",), True)),
        "side or 0": ((0, 8), (*_NOT_NUMBERS[:6], 1.5, -1, 10**9, [8], (8,))),
        "side": ((8, 16, (8, 10)), (*_NOT_NUMBERS, 0, -1, 1.5, (8,), (8, 0), (8, -1), (8, 1.5), (1, 2, 3), [8, 10])),
        "square": ((8, 16), (*_NOT_NUMBERS, 0, -1, 1.5)),
        "bytes": (
            (bytes_,),
            (floats, bytes_[0], bytes_[:, :4], bytes_[..., :1], bytes_[:0], None, "x", 3, bytes_.astype(int), {}),
        ),
        "splits": (((), ("first",), ["second"]), ("first", 3, None, ("third",), (3,), (None,), {"x": 1}, ("",))),
        "seed": ((0, 1, 2**31), (-1, 1.5, "x", "0", None, True, (), 2**64, math.nan, [0])),
        "queries": (((1,), (1, 10)), (1, "1", None, (0,), (-1,), (1.5,), ("x",), (), (True,), (10**9,))),
        "labels": (
            (None, (0, 4), np.array([1, 2])),
            ((0,), (0, 1, 2), (0, 5), (-1, 0), (0.5, 1), ("a", "b"), (0, math.nan), 3, "ab", ((0, 1),), (None, 0)),
        ),
        "defenses": (
            (None, (("none", 0.0),), (("gaussian", 0.5), ("none", 0.0)), [["quantize", 8]]),
            (
                *("none", 3, ("none",), (("none",),), (("none", 0.0, 1),), (("none", 1.0),), (("gaussian", -1),)),
                *((("gaussian", math.nan),), (("gaussian", math.inf),), (("gaussian", "x"),), (("gaussian", None),)),
                *((("quantize", 0),), (("quantize", 2.5),), (("dropout", 1.0),), (("nowhere", 1.0),), (3,), ()),
                *((("gaussian", True),), (("jpeg", 0),), (("topk", 0),), (("prune_channels", 1),), ((None, 0.0),)),
            ),
        ),
        "attacks": (
            (("rmle",), ["dci", "dci+refine"]),
            ("dci", 3, ("nowhere",), (3,), (), (None,), ("DCI",), ("dci+",), ("dci+nowhere",), ("dci@nowhere",)),
        ),
        "audited": (
            (None, bytes_[:2], floats),
            (*_array(SHAPE)[1][:9], 255 * floats, floats - 1, bytes_[:0], 3, {}, own, "nowhere", ""),
        ),
        "settings": (
            (None, {}, {"batch": 2}, {"dci.num_images": 16}),
            (
                *(3, "x", ("batch", 2), {"bach": 2}, {"dci": 3}, {"dci.num_image": 16}, {"dci.num_images": 1}, {3: 4}),
                *({"batch": 0}, {"batch": "x"}, {"batch": True}, {"batch": 1.5}, {"batch": None}, {"": 1}, {"dci.": 1}),
                *({"refine.prior_weight": 1.0}, {"audit.psnr": math.nan}, {"audit.leaking": 2}, {"seed": "0"}),
                *({"inputs.dead_leaves": -1}, {"synthesis.betas": (0.9,)}, {"synthesis.start": "nowhere"}),
            ),
        ),
        "name": (("cifar_resnet20",), (*_NOT_NAMES, "", "resnet21", "CIFAR_RESNET20", "nowhere:f", "os:f")),
        "no weights": (("",), ("/nowhere", "/", "\0", 3, b"x", ("x",), True, "x" * 5000, "resnet18.tv1")),
        "sha256": (("",), (*_NOT_NAMES, "x", "0" * 7, "0" * 64, "0" * 65)),
        "no deploy": ((False,), (True,)),
        "shape": (
            ((8, 8, 3), (8, 10, 3)),
            (*_NOT_NUMBERS, 3, (8, 8), (8, 8, 3, 1), (0, 8, 3), (8, -8, 3), (8.5, 8, 3), ("8", 8, 3), (8, 8, 4)),
        ),
        "mean": (
            ((0.0,), (0.5, 0.4, 0.3)),
            (*_NOT_NUMBERS[:6], (), (0.1, 0.2), (math.nan,), (math.inf, 0, 0), ("x",), (None,), ((0,),)),
        ),
        "std": (
            ((1.0,), (0.5, 0.4, 0.3)),
            (*_NOT_NUMBERS[:6], (), (0.1, 0.2), (0.0,), (-1.0,), (math.nan,), ("x",), (None,), (1, 1, 0)),
        ),
        "kind and strength": (
            (("quantize", 4), ("gaussian", 0.5), ("none", 0.0), ("topk", 0.5)),
            (
                *(("gaussian", -1.0), ("gaussian", "x"), ("gaussian", None), ("gaussian", math.inf), ("quantize", 2.5)),
                *(("quantize", 0), ("none", 1.0), ("Gaussian", 1.0), ("", 1.0), (None, 1.0), (3, 1.0), ("a:b", 1.0)),
                *(("topk", 1.0), ("jpeg", 96), ("gaussian", True), ("dropout", 0.0), ("shuffle_tokens", 2.0)),
            ),
        ),
    }


def _with_kind(network, split, kind_strength, prior, key, num_queries, num_steps):
    return dci_jax.learn_defense(
        network, split, *kind_strength, prior, key=key, num_queries=num_queries, num_steps=num_steps
    )


def _sequential(input_shape, mean, std, crop):
    pieces = [("first", _conv(1), np.ones((3, 3, 3, 4), np.float32))]
    return dci_jax.sequential("x", input_shape, pieces, None, mean, std, crop)


def _from_jax(input_shape, mean, std, crop):
    weights = np.ones((3, 3, 3, 4), np.float32)
    return dci_jax.from_jax(lambda w, x: _conv(1)(w, x) * 2, weights, input_shape, mean=mean, std=std, crop=crop)


@functools.cache
def chain() -> dci_jax.Chain:
    """Solved once."""
    few = dict(num_images=16, num_validation=8, batch_size=8, num_corrections=1, samples_per_unknown=1)
    return dci_jax.solve_chain(network(), "second", prior(), key=jax.random.key(0), progress=False, **few)


def _metric(name):
    return lambda images, truth: getattr(dci_jax.metrics, name)(images, truth)


_MATCHED = {
    **{"network": "network", "split": "second", "features": "features", "start": "start", "defense": "defense"},
    "total_variation": "weight",
}
# name -> (what is called, argument -> role). Training and solving do not begin.
CALLS: dict[str, tuple[Callable, dict[str, str]]] = {
    "solve_chain": (
        lambda **given: dci_jax.solve_chain(**given, progress=False),
        {
            **{"network": "network", "split": "second", "prior": "prior", "key": "key", "num_images": "images of 16"},
            **{"num_validation": "images of 8", "batch_size": "count", "num_corrections": "count or 0"},
            **{"kernel_size": "kernel", "max_unknowns": "unknowns", "samples_per_unknown": "count"},
            "defense": "defense",
        },
    ),
    "solve_chain's split": (
        lambda **given: dci_jax.solve_chain(key=jax.random.key(0), prior=prior(), progress=False, **given),
        {"network": "network", "split": "split"},
    ),
    "train_chain": (
        lambda **given: dci_jax.train_chain(split="second", progress=False, **given),
        {
            **{"network": "network", "prior": "prior", "key": "key", "divide_steps": "count or 0"},
            **{"learning_rate": "rate", "batch": "count", "width": "positive", "layer": "weight"},
        },
    ),
    "learn_defense": (
        _with_kind,
        {
            **{"network": "network", "split": "split", "kind_strength": "kind and strength", "prior": "prior"},
            **{"key": "key", "num_queries": "count", "num_steps": "count"},
        },
    ),
    "optimize": (
        lambda **given: dci_jax.optimize(**given, progress=False),
        _MATCHED | {"num_steps": "count or none", "learning_rate": "rate", "prior_weight": "no weight"},
    ),
    "gauss_newton": (
        lambda **given: dci_jax.gauss_newton(**given),
        _MATCHED | {"num_steps": "count", "num_conjugate": "count", "damping": "positive"},
    ),
    "fit_prior": (
        lambda **given: dci_jax.fit_prior(**given, progress=False),
        {
            **{
                "network": "network",
                "key": "key",
                "weights": "mixture",
                "side": "side or 0",
                "num_steps": "count or 0",
            },
            **{"batch_size": "count", "learning_rate": "rate", "padding": "padding"},
        },
    ),
    "synthesize": (
        lambda **given: dci_jax.synthesize(**given, stages=((8, 3),), progress=False),
        {
            **{"network": "network", "key": "key", "num_images": "count", "learning_rate": "rate"},
            **{"statistics": "weight", "jitter": "count or 0", "warmup": "count or 0"},
        },
    ),
    "with_synthetic": (dci_jax.with_synthetic, {"prior": "prior", "images": "bytes", "weight": "share"}),
    "load_network": (
        dci_jax.load_network,
        {"name": "name", "weights": "no weights", "sha256": "sha256", "side": "side or 0", "deploy": "no deploy"},
    ),
    "with_side": (dci_jax.with_side, {"network": "network", "side": "side"}),
    "features_at": (dci_jax.features_at, {"network": "network", "split": "split or number", "x": "images"}),
    "split_points": (dci_jax.split_points, {"network": "network"}),
    "split_names": (dci_jax.split_names, {"network": "network"}),
    "leakage_scores": (
        dci_jax.leakage_scores,
        {"network": "network", "splits": "splits", "num_images": "count", "seed": "seed"},
    ),
    "audit": (
        lambda **given: dci_jax.audit(**given, progress=False),
        {
            **{"network": "network", "images": "audited", "splits": "splits", "defenses": "defenses"},
            **{"attacks": "attacks", "num_queries": "queries", "seed": "seed", "settings": "settings"},
        },
    ),
    "audit's labels": (
        lambda **given: dci_jax.audit(network(), roles()["images"][0][0], **given, progress=False),
        {"labels": "labels"},
    ),
    "sequential": (_sequential, {"input_shape": "shape", "mean": "mean", "std": "std", "crop": "share"}),
    "from_jax": (_from_jax, {"input_shape": "shape", "mean": "mean", "std": "std", "crop": "share"}),
    "Chain": (lambda features: chain()(features), {"features": "features"}),
    "Chain.at_side": (lambda side: chain().at_side(side), {"side": "square"}),
    "metrics.latent_error": (_metric("latent_error"), {"images": "latents", "truth": "latents"}),
    **{f"metrics.{name}": (_metric(name), {"images": "estimates", "truth": "truth"}) for name in ("psnr", "ssim")},
}


@functools.cache
def wrongs() -> list[tuple[str, str, int]]:
    """(function, argument, place among its role's wrong values) of all that is known to be wrong."""
    return [
        (name, argument, place)
        for name, (_, arguments) in CALLS.items()
        for argument, role in arguments.items()
        for place in range(len(roles()[role][1]))
    ]


def call(rng: random.Random, turn: int) -> tuple[str, bool, Callable[[], object]]:
    """(what is given, whether it is wrong, the call): right arguments, in two of three turns but one, each wrong one in its turn."""
    wrong = bool(turn % 3)
    name, wrong_argument, place = wrongs()[(turn - turn // 3 - 1) % len(wrongs())]
    name = name if wrong else rng.choice(list(CALLS))
    function, arguments = CALLS[name]
    given = {argument: rng.choice(roles()[role][0]) for argument, role in arguments.items()}
    said = "right arguments"
    if wrong:
        given[wrong_argument] = roles()[arguments[wrong_argument]][1][place]
        said = f"{wrong_argument}={_short(given[wrong_argument])}"
    return f"{name}({said})", wrong, functools.partial(function, **given)


def _short(value):
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{value.dtype}{list(value.shape)}"
    try:
        return repr(value)[:100]
    except TypeError:  # a prior without weights
        return type(value).__name__
