"""Where a network can be cut: what each split point costs, what a feature there sees, and a score of how much it leaks."""

import math
from collections.abc import Sequence
from typing import Any

import jax

from dci_jax.errors import InputError
from dci_jax.evaluation.information import receptive_fields, score
from dci_jax.evaluation.kept import costs
from dci_jax.network import Network, feature_shapes, split_index, split_names
from dci_jax.tensors import shapes as tensor_shapes


def split_points(network: Network) -> list[dict[str, Any]]:
    """What each split point costs for one input, in their order, and how much of an image a feature sees. `pandas.DataFrame` takes it.

    Args:
      network: the target.

    Returns:
      a dict for each: "name"; "shape" of the features, channels last, and of the "tensors" that they are sent as; "values", how many numbers these are, and
      "share_of_input", as a share of the input's; "bytes_float32" and "bytes_8bit" of a payload; "device_flops" up to there,
      and "share_of_flops" of those up to the last one; "device_parameters"; "batch_norms", the BatchNorm layers on the device;
      "depth", the blocks up to there; "receptive_field" (height, width) in pixels that a feature in the middle depends on, cut at the
      image's border, None of a generator.
    """
    names, shapes = split_names(network), feature_shapes(network)
    found = costs(network, names)
    whole = max(found[names[-1]]["device_flops"], 1)
    fields = [None] * len(names) if network.latent else receptive_fields(network)
    return [
        {
            "name": name,
            "shape": shape,
            "tensors": tensor_shapes(shape, block.tensors) if block.tensors else (shape,),
            "values": math.prod(shape),
            "share_of_input": math.prod(shape) / math.prod(shapes[0]),
            "bytes_float32": 4 * math.prod(shape),
            "bytes_8bit": math.prod(shape),
            "device_flops": found[name]["device_flops"],
            "share_of_flops": found[name]["device_flops"] / whole,
            "device_parameters": found[name]["device_parameters"],
            "batch_norms": found[name]["batch_norms"],
            "depth": depth,
            "receptive_field": field,
        }
        for depth, (name, shape, field, block) in enumerate(
            zip(names, shapes[1:], fields, network.blocks, strict=True), 1
        )
    ]


def leakage_scores(
    network: Network, splits: Sequence[str] = (), *, num_images: int = 4, seed: int = 0
) -> dict[str, float]:
    """Rank split points without an attack: the error of a linear reader of small changes, in dB. Half a minute for each split point of a small network.

    Procedural images, no real data. It ranks split points and certifies nothing: attack those that you would choose (`audit`).
    `dci_jax/evaluation/information.py` has the equations.

    Args:
      network: the target, of images.
      splits: split points; (): all.
      num_images: procedural images that it is averaged over.
      seed: of these, and of the estimate's random signs.

    Returns:
      split point -> score in dB; higher leaks more.

    Raises:
      InputError: no such split point, a number below 1, or a generator.
    """
    if network.latent:
        raise InputError(f"{network.name} is a generator, and the score is of images; attack it by `audit`'s configs.")
    if num_images < 1:
        raise InputError(f"num_images is {num_images}; give at least 1.")
    names = tuple(splits) or split_names(network)
    indices = [split_index(network, name) for name in names]
    with jax.default_matmul_precision("highest"):
        key = jax.random.key(seed)
        return {name: score(network, i, key, num_images) for name, i in zip(names, indices, strict=True)}


def as_text(network: Network) -> str:
    """`split_points` as lines for a terminal."""
    lines = [f"  {'split point':32} {'features':>16} {'float32':>11} {'8 bits':>10} {'FLOPs':>6} {'sees, pixels':>13}"]
    for row in split_points(network):
        sees = "x".join(map(str, row["receptive_field"] or ()))
        shape = " + ".join("x".join(map(str, tensor)) for tensor in row["tensors"])
        share = f"{row['share_of_flops']:.0%}"
        lines.append(
            f"  {row['name']:32} {shape:>16} {row['bytes_float32'] / 1024:7.1f} KiB {row['bytes_8bit'] / 1024:6.1f} KiB {share:>6} {sees:>13}"
        )
    return "\n".join(lines)
