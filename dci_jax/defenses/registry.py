"""Every defense, one row each: what the server receives, what an attacker who knows the defense can compute, its bytes.

A new defense is a function beside this file and one row here; its strengths are in `settings.ranges.STRENGTHS`, and
its label in `report/labels.py`. A custom defense is a `Defense` that a config names as
"module.path:object" (docs/own_defense.py).
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from dci_jax import import_from_string
from dci_jax.defenses import calibrated, codec, comparison, compression, learned, noise, pruning, tokens
from dci_jax.defenses.compression import as_sent, straight_through
from dci_jax.defenses.size import coded_bytes, marked_bytes
from dci_jax.errors import InputError, reason


def _as_received(params, features, strength):
    """The payload is what the server receives."""
    return None


@dataclass(frozen=True)
class Defense:
    """A defense.

    Attributes:
      send: (params, key, features [B, ...], strength) -> what the server receives [B, ...], each example independently.
      expected: (params, features, strength, received or None, num_queries) -> the same on average, differentiable: an
        attacker's model of the defense; with `received`, see `comparison`.
      presets: typical strengths, from mild to strong; those of docs/audit.md.
      random: whether two queries of one input differ.
      joined: [results of several queries] -> an attacker's combination of them.
      learn: makes params before anything is sent; see `learned`.
      recordable: whether an attacker can make these params from the network alone, so that recorded features need no others.
      batch: images per batch for `learn`.
      travels: (params, features, strength) -> the payload, if the server computes the features from it; else None.
      size: (array, strength) -> bytes of one example's payload, int.
      check: (shape of one example's features) -> raises InputError if they cannot be defended in this way.
      restore: a dataclass that is a pytree with `__call__`, by which an attacker who knows the defense puts received features
        [B, ...] right before any attack; made by its `fit(params, [features of the attacker's own inputs])`. None: they need no such step.
    """

    send: Callable
    expected: Callable
    presets: tuple[float, ...] = ()
    random: bool = False
    joined: Callable[[list], jax.Array] = noise.mean
    learn: Callable | None = None
    recordable: bool = False
    batch: int = 32
    travels: Callable = _as_received
    size: Callable[[np.ndarray, float], int] = lambda example, strength: coded_bytes(example)
    check: Callable[[tuple[int, ...]], None] = lambda shape: None
    restore: type | None = None


DEFENSES = {
    "none": Defense(compression.none, as_sent(compression.none), (0.0,)),
    "gaussian": Defense(noise.gaussian, noise.unchanged, (0.25, 0.5, 1.0), random=True),
    "laplace": Defense(noise.laplace, noise.unchanged, (0.125, 0.25, 0.5), random=True),
    "dropout": Defense(noise.dropout, noise.where_sent, (0.25, 0.5, 0.75), random=True, joined=noise.any_that_arrived),
    "dropout_marked": Defense(
        noise.dropout_marked,
        noise.where_marked,
        (0.25, 0.5, 0.75),
        random=True,
        joined=noise.any_that_is_marked_as_sent,
        size=lambda example, strength: marked_bytes(example),
    ),
    "quantize": Defense(compression.quantize, straight_through(compression.quantize), (8.0, 4.0, 2.0, 1.0)),
    "topk": Defense(compression.topk, comparison.below_the_kept, (0.5, 0.25, 0.1)),
    "topk_channels": Defense(compression.topk_channels, comparison.below_the_kept_channels, (0.75, 0.5, 0.25)),
    "jpeg": Defense(
        compression.jpeg,
        straight_through(compression.jpeg),
        (90.0, 50.0, 10.0),
        travels=compression.jpeg_picture,
        size=compression.jpeg_bytes,
    ),
    "prune_channels": Defense(
        pruning.prune_channels, as_sent(pruning.prune_channels), (0.25, 0.5, 0.75), learn=pruning.learn_channels
    ),
    "bottleneck": Defense(
        learned.bottleneck,
        as_sent(learned.bottleneck),
        (2.0, 4.0, 8.0),
        learn=learned.learn_bottleneck,
        travels=lambda params, features, strength: learned.narrow(params, features),
    ),
    "nopeek": Defense(learned.nopeek, as_sent(learned.nopeek), (0.1, 1.0, 10.0), learn=learned.learn_nopeek, batch=128),
    "learned_noise": Defense(
        learned.learned_noise, comparison.weighed, (0.1, 1.0, 10.0), random=True, learn=learned.learn_noise
    ),
    "fisher_noise": Defense(
        calibrated.fisher_noise, noise.unchanged, (40.0, 30.0, 20.0), random=True, learn=calibrated.learn_fisher_noise
    ),
    "codec": Defense(
        codec.codec,
        straight_through(codec.codec),
        (0.25, 1.0, 4.0),
        learn=codec.learn_codec,
        travels=codec.coefficients,
        size=codec.coefficient_bytes,
    ),
    "shuffle_tokens": Defense(
        tokens.shuffle_tokens,
        tokens.best_order,
        (0.5, 1.0),
        random=True,
        joined=tokens.first,
        learn=tokens.grid_channels,
        recordable=True,
        check=tokens.check_grid,
        restore=tokens.Positions,
    ),
    "drop_tokens": Defense(
        tokens.drop_tokens,
        noise.where_sent,
        (0.25, 0.5, 0.75),
        random=True,
        joined=noise.any_that_arrived,
        learn=tokens.grid_channels,
        recordable=True,
        check=tokens.check_grid,
    ),
    "merge_tokens": Defense(
        tokens.merge_tokens,
        straight_through(tokens.merge_tokens),
        (0.25, 0.5, 1.0),
        learn=tokens.grid_channels,
        recordable=True,
        check=tokens.check_grid,
    ),
}


def find(kind: str) -> Defense:
    """The row of a defense: a key of `DEFENSES`, or "module.path:object" of a custom one.

    Raises:
      InputError: there is no such defense.
    """
    if ":" in kind:
        return import_from_string.row(kind, Defense)
    if kind not in DEFENSES:
        raise InputError(
            f"No defense is called {kind!r}; choose from: {', '.join(DEFENSES)}, or give module.path:object."
        )
    return DEFENSES[kind]


def check_own(kind: str, strength: float, shape: tuple[int, ...]) -> None:
    """Check that a defense suits features [2, *shape], a custom one by shapes. Nothing is computed.

    Raises:
      InputError: it does not, fails, or changes the shape.
    """
    row, features = find(kind), jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    row.check(shape)
    if ":" not in kind or row.learn:
        return
    number = jnp.float32(strength)
    calls = {
        "send": lambda f, key: row.send({}, key, f, number),
        "expected": lambda f, key: row.expected({}, f, number, f, jnp.float32(1)),
    }
    for name, call in calls.items():
        try:
            found = jax.eval_shape(call, features, jax.random.key(0))
        except Exception as error:  # any exception: the functions are the user's
            raise InputError(
                f"{kind}: `{name}` fails on features {list(features.shape)} ({reason(error)}); correct it."
            ) from error
        if getattr(found, "shape", None) != features.shape:
            raise InputError(
                f"{kind}: `{name}` returns {found} for features {list(features.shape)}; it must keep their shape."
            )
