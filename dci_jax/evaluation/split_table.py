"""Where a network can be split: the cost of each split point, and the receptive field of its features."""

import math
from typing import Any

from dci_jax.evaluation.information import receptive_fields
from dci_jax.evaluation.kept import costs
from dci_jax.network import Network, check_network, feature_shapes, split_names
from dci_jax.tensors import shapes as tensor_shapes


def split_points(network: Network) -> list[dict[str, Any]]:
    """List the cost of each split point for one input, in order, and its receptive field; rows for `pandas.DataFrame`.

    Args:
      network: the target.

    Returns:
      a dict for each: "name"; "shape" of the features, channels last, and of the "tensors" that are sent; "values", their number,
      and "share_of_input", relative to the input's; "bytes_float32" and "bytes_8bit" of a payload; "device_flops" up to there,
      and "share_of_flops", relative to the last one's; "device_parameters"; "batch_norms", the BatchNorm layers on the device;
      "depth", the number of blocks up to there; "receptive_field" (height, width) in pixels of a feature in the middle, clipped
      at the image's border, None for a generator.
    """
    check_network(network)
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
