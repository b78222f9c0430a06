"""Solve or train a chain of inverters for one split point."""

import numbers
import tempfile
from pathlib import Path
from typing import Any

from dci_jax.api.calls import (
    as_plain,
    check_defense,
    check_key,
    check_prior,
    check_values,
    float32,
    folder_of,
    on_mesh,
    section_of,
)
from dci_jax.dci.chain import Chain
from dci_jax.dci.solve_chain import dci
from dci_jax.dci.trained.train_chain import dci_trained
from dci_jax.defenses.channel import NONE, Channel, learn
from dci_jax.defenses.registry import check_own, find
from dci_jax.errors import InputError, described
from dci_jax.inputs.mixture import Prior
from dci_jax.network import Network, check_network, feature_shapes, split_index
from dci_jax.runtime import progress as shown
from dci_jax.settings.fields import FIELDS
from dci_jax.settings.ranges import STRENGTHS
from dci_jax.typing import Array


def solve_chain(
    network: Network,
    split: str,
    prior: Prior,
    *,
    key: Array,
    num_images: int = 1152,
    num_validation: int = 128,
    batch_size: int = 64,
    num_corrections: int = 6,
    kernel_size: int = 5,
    max_unknowns: tuple[int, int] = (10000, 7000),
    samples_per_unknown: int = 100,
    defense: Channel = NONE,
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> Chain:
    """Solve a chain of inverters from a split point back to the input: least squares, no gradient step.

    Divide-and-conquer inversion (Dong et al., BMVC 2022) with linear inverters, corrected with the network's own outputs.

    Args:
      network: the target.
      split: the split point; `split_names(network)` lists them.
      prior: inputs to solve on, from `fit_prior`.
      key: PRNG key.
      num_images: maximum number of inputs that an inverter is solved on.
      num_validation: inputs for choosing the ridge and the number of corrections.
      batch_size: inputs per batch, split across devices.
      num_corrections: maximum number of corrections in each inverter.
      kernel_size: maximum kernel size, 1, 3, 5 or 7 pixels.
      max_unknowns: maximum unknowns of a first map and of a correction; bounds memory (unknowns squared, in float64) and time.
        Kernels shrink to fit.
      samples_per_unknown: pixels per unknown that suffice; large features supply them in a few inputs.
      defense: the defense applied to the features, known to the attacker.
      cache_dir: stores solved maps, from which the same call resumes. None: nothing is written.
      progress: whether to show a bar, or a line every half minute where stderr is no terminal.

    Raises:
      InputError: an unknown split point, a setting out of range, or features that carry no information.
    """
    check_network(network, split)
    check_key(key)
    check_prior(prior, network)
    check_defense(defense, network, split)
    check_values(
        num_images=(num_images, "dci.num_images"),
        num_validation=(num_validation, "dci.num_validation"),
        batch_size=(batch_size, "dci.batch"),
        num_corrections=(num_corrections, "dci.num_corrections"),
        kernel_size=(kernel_size, "dci.kernel_size"),
        max_unknowns=(max_unknowns, "dci.max_unknowns"),
        samples_per_unknown=(samples_per_unknown, "dci.samples_per_unknown"),
    )
    if not isinstance(max_unknowns, tuple | list) or len(max_unknowns) != 2:
        raise InputError(f"max_unknowns is {max_unknowns}; give two numbers, for a first map and a correction.")
    if kernel_size % 2 == 0:
        raise InputError(f"kernel_size is {kernel_size}; give 1, 3, 5 or 7 pixels.")
    settings = dict(
        num_images=num_images,
        num_validation=num_validation,
        batch=batch_size,
        num_corrections=num_corrections,
        kernel_size=kernel_size,
        max_unknowns=tuple(max_unknowns),
        samples_per_unknown=samples_per_unknown,
    )
    folder = folder_of(cache_dir)
    with shown.visible(progress), float32():
        return as_plain(dci(on_mesh(network), prior, (split,), key, folder, channel=defense, **settings)[split])


def train_chain(
    network: Network,
    split: str,
    prior: Prior,
    *,
    key: Array,
    cache_dir: str | Path | None = None,
    progress: bool = True,
    **settings: Any,
) -> Chain:
    """Train a chain of convolutional inverters by divide and conquer, as the paper does (Dong et al., BMVC 2022).

    Args:
      network: the target.
      split: the split point.
      prior: inputs to train on, from `fit_prior`.
      key: PRNG key.
      cache_dir: stores checkpoints; the same call resumes from the last. None: nothing is written.
      progress: whether to show a bar, or a line every half minute where stderr is no terminal.
      **settings: fields of the section "dci_trained" in docs/fields.md, such as `divide_steps=150`, `conquer=((split, 300),)`.

    Raises:
      InputError: an unknown split point, or a setting out of range.
    """
    check_network(network, split)
    check_key(key)
    check_prior(prior, network)
    how = section_of("dci_trained", {"conquer": ((split, 450),)} | settings)
    folder = folder_of(cache_dir)
    with shown.visible(progress), float32():
        chains = dci_trained(on_mesh(network), prior, (split,), key, folder, **how)
        return as_plain(chains[split])


def learn_defense(
    network: Network,
    split: str,
    kind: str,
    strength: float,
    prior: Prior,
    *,
    key: Array,
    num_queries: int = 1,
    num_steps: int = 200,
) -> Channel:
    """Make a defense for a split point; learned kinds are trained on the prior's images.

    Args:
      network: the target.
      split: the split point.
      kind: a key of `dci_jax.defenses.DEFENSES`, or "module:object" of your own `Defense`.
      strength: strength of the defense.
      prior: what a learned defense is trained on.
      key: PRNG key.
      num_queries: how often each input is sent through a random defense; the attacker receives every result.
      num_steps: Adam updates of a learned defense.

    Returns:
      the defense, for `solve_chain(defense=)` and `dci_jax.defenses.send`.
    """
    check_network(network, split)
    check_key(key)
    check_prior(prior, network)
    check_values(num_queries=(num_queries, FIELDS["num_queries"].form.each), num_steps=(num_steps, "defense.steps"))
    if not isinstance(kind, str):
        raise InputError(f"kind is {described(kind)}; give a name of dci_jax.defenses.DEFENSES, or module:object.")
    find(kind)
    allowed = STRENGTHS.get(("defenses", kind))
    if isinstance(strength, bool) or not isinstance(strength, numbers.Real) or (allowed and strength not in allowed):
        raise InputError(f"strength is {described(strength)}; give {kind!r} {allowed or 'a number'}.")
    check_own(kind, strength, feature_shapes(network)[split_index(network, split)])
    channel = Channel(kind, float(strength), num_queries)
    with float32(), tempfile.TemporaryDirectory() as folder:
        return learn(channel, network, split_index(network, split), prior, key, Path(folder), num_steps)
