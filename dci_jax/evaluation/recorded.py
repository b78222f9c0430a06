"""Recorded features: reconstruct from what a device actually sent; the images need not be known.

A dump is an .npz with "features" [N, ...] and "split", the name of the split point; rows are examples.
"""

import functools
import logging
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dci_jax.attacks.feature_matching import relative_distance
from dci_jax.data import archives
from dci_jax.defenses.channel import with_defense, with_observation
from dci_jax.defenses.registry import DEFENSES, find
from dci_jax.defenses.size import coded_bytes
from dci_jax.errors import InputError
from dci_jax.evaluation import images
from dci_jax.evaluation.case import Case
from dci_jax.evaluation.image_scores import compared, labels_of, measure, predictions
from dci_jax.evaluation.kept import each
from dci_jax.inputs.procedural import dead_leaves
from dci_jax.network import Network, feature_shapes, features_at, run, split_index
from dci_jax.report import recorded as page

log = logging.getLogger("dci_jax")


def load(config: ConfigDict, network: Network) -> Case:
    """The `Case` of a config with `features`. `data.images`, if given, are the originals, in order.

    Args:
      config: as in configs/default.py; `defenses` names the one that was applied.
      network: the target.

    Raises:
      InputError: the dump is damaged, of another network, split or type, not finite, empty or too large; the number of
        originals differs; not exactly one defense is named, or it is a learned one.
    """
    split, features = read_dump(Path(config.features), network)
    if tuple(config.splits) not in ((), (split,)):
        raise InputError(
            f"splits is {tuple(config.splits)}, but {config.features} was recorded at {split}; leave splits empty."
        )
    channels = images.asked(config)
    if len(channels) != 1 or _has_secrets(find(channels[0].kind)):
        learned = ", ".join(kind for kind, row in DEFENSES.items() if _has_secrets(row))
        raise InputError(
            f"defenses is {tuple(config.defenses)}, but recorded features went through one; name that, or "
            f"(('none', 0.0),), and one number of queries. A dump lacks the parameters of learned ones: {learned}."
        )
    if channels[0].kind == "dropout_marked" and not np.signbit(features[features == 0]).any():
        # Every zero would count as a true value, and the weak attack would make the split look safe.
        raise InputError(
            f"defenses is {tuple(config.defenses)}, but no zero in {config.features} is negative, which marks dropped "
            "values; record -0.0 there, or name dropout, whose mask is guessed."
        )
    base = images.load(config, network, (split,))
    known = bool(config.data.images)
    if known and len(base.names) != len(features):
        raise InputError(
            f"{config.features} holds {len(features)} examples and data.images {len(base.names)}; give the images that "
            "they were computed from, in order, or none."
        )
    found = replace(
        base,
        names=base.names if known else tuple(f"row {i}" for i in range(len(features))),
        read=functools.partial(
            _read, base.network, features, config.batch, judge=base.judge, private=base.private if known else None
        ),
        sent=functools.partial(_sent, features),
        finish=lambda fitted, evaluation: None,
        report=base.report if known else page.write,
        depends=base.depends | {"features": features},
    )
    return found if known else replace(found, baselines={}, begin=lambda evaluation: None)


def _has_secrets(defense):
    """Whether its parameters are the device's own."""
    return bool(defense.learn) and not defense.recordable


def read_dump(path: Path, network: Network) -> tuple[str, np.ndarray]:
    """(split point, features float32 [N, ...]) of a dump.

    Raises:
      InputError: see `load`.
    """
    cure = 'give an .npz made by numpy.savez(path, features=..., split="layer1.2")'
    saved = archives.arrays(path, ("features", "split"), cure)
    for name in ("features", "split"):
        if name not in saved:
            raise InputError(f"{path} has no {name!r} but {archives.names(path)}; {cure}.")
    if saved["features"].dtype.kind != "f":
        raise InputError(f"The features in {path} are {saved['features'].dtype}, not floating-point numbers; {cure}.")
    split, features = str(saved["split"]), np.asarray(saved["features"], np.float32)
    expected = feature_shapes(network)[split_index(network, split)]
    if features.ndim < 2 or features.shape[1:] != expected or not len(features):
        raise InputError(
            f"The features in {path} are {list(features.shape)}, but {network.name} sends [N, "
            f"{', '.join(map(str, expected))}] after {split}, N at least 1, channels last; record them there."
        )
    if not np.isfinite(features).all():
        raise InputError(f"{(~np.isfinite(features)).sum()} numbers in {path} are not finite; record it again.")
    if features.min() == features.max():
        raise InputError(
            f"All numbers in {path} are {features.min():g}, which carries no information; record it again."
        )
    _check_scale(path, split, features, network)
    return split, features


def _check_scale(path, split, features, network):
    """Reject features on another scale than the network's: no attack would reconstruct anything from them."""
    x = dead_leaves(jax.random.key(0), 8, network.input_shape)
    usual = float(jnp.std(features_at(network, split_index(network, split), x)))
    found = float(np.std(features, dtype=np.float64))
    if not usual / 1000 < found < usual * 1000:
        raise InputError(
            f"The features in {path} have a standard deviation of {found:.2g}, but those of {network.name} after {split} have {usual:.2g}; "
            "record them there, with these weights and its normalisation of images."
        )
    if not usual / 10 < found < usual * 10:
        log.warning(
            "the features in %s have a standard deviation of %.2g, those of %s after %s %.2g on procedural images: if they are from other "
            "weights or another normalisation, the attacks are too weak to judge",
            path,
            found,
            network.name,
            split,
            usual,
        )


def _read(network, features, batch, split, channel, reconstruct, *, judge, private, key, file):
    """Scores as in `image_scores.read` if the images are known, and "feature_error": how well the result explains the features.

    |F(x) - f|^2 / |f - mean f|^2 with the reconstruction for x, after the defense. Without the truth, that is the only score.
    """
    del key
    index = split_index(network, split)
    known = with_defense(network, index, channel)
    truth = ()
    if private is not None:
        truth = private.pixels, labels_of(private), functools.partial(predictions, network, private, batch)

    def one(sent, *rest):
        found = jnp.clip(reconstruct(sent), 0, 1)
        error = relative_distance(run(with_observation(known, sent), found, 0, index), sent)
        scores = {"reconstruction": jnp.round(found * 255).astype(jnp.uint8)}
        if len(rest) > 1:
            scores = measure(network, judge, rest[0], found, *rest[1:])
        return scores | {"feature_error": error}

    scores = each(file, batch, one, features, *truth)
    if private is not None:
        scores |= compared(scores, private.pixels, batch)
    return scores


def _sent(features, split, channel, key, file):
    return {"bytes_coded": np.array([coded_bytes(example) for example in features])}
