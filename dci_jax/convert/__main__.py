"""Any PyTorch network, or an ONNX file, as a bundle that dci_jax reads without PyTorch.

python -m dci_jax.convert timm:mobilenetv3_small_100 --out=bundles/mobilenetv3
python -m dci_jax.convert my_package.networks:small_net --out=bundles/mine --size=64 --mean .5 --std .5
python -m dci_jax.convert model.pt2 --out=bundles/mine
python -m dci_jax.convert model.onnx --out=bundles/mine --mean .485 .456 .406 --std .229 .224 .225
python -m dci_jax.main --config=configs/bundle.py --workdir=runs/any --config.target.weights=bundles/mobilenetv3
"""

import argparse
import dataclasses
import json
import logging
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import safetensors.numpy

from dci_jax.checkpoints import read
from dci_jax.convert import onnx
from dci_jax.errors import InputError
from dci_jax.evaluation import split_table
from dci_jax.importers import bundle
from dci_jax.importers.place import as_data
from dci_jax.importers.program import BATCH_NORM
from dci_jax.runtime.files import replacing

CLOSE = 1e-2  # of the largest number: what differs more is another network

log = logging.getLogger("dci_jax")


def main(arguments: list[str]) -> int:
    """The command line. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m dci_jax.convert", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "network",
        help="timm:NAME, module.path:function (which returns an nn.Module), FILE.pt2 of torch.export.save, or FILE.onnx",
    )
    add("--out", type=Path, required=True, help="folder of the bundle; must not exist yet")
    add("--weights", default="", help="checkpoint with the model's own names; default: the published ones")
    add("--random", action="store_true", help="timm's random weights")
    add(
        "--size",
        type=int,
        nargs="+",
        default=(),
        help="side of an image in pixels, or height and width; default: the network's own, or 224",
    )
    add("--channels", type=int, default=0, help="of an image; default: the network's own, or 3")
    add("--classes", type=int, default=0, help="of a timm network with another head")
    add("--mean", type=float, nargs="+", default=(), help="of images in [0, 1], one number or one for each channel")
    add("--std", type=float, nargs="+", default=(), help="the same")
    add("--crop", type=float, default=0.0, help="share of a picture's shorter side that is cut out")
    add("--all_splits", action="store_true", help="every place where one tensor is alive is a split point by default")
    settings = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    log.setLevel(logging.INFO)
    try:
        convert(settings)
    except InputError as error:
        print(f"dci_jax.convert: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("dci_jax.convert: stopped by Ctrl-C; nothing is left.", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"dci_jax.convert: {settings.out} cannot be written ({error}); give another folder.", file=sys.stderr)
        return 2
    return 0


def convert(settings: argparse.Namespace) -> None:
    """Export, write, measure.

    Raises:
      InputError: what is asked for cannot be had; nothing is left in --out then.
    """
    if settings.out.exists():
        raise InputError(f"--out: {settings.out} is there already; give another folder, or remove it.")
    if settings.random and settings.weights:
        raise InputError(f"--random and --weights={settings.weights} contradict each other; give one of them.")
    if len(settings.size) > 2 or not all(1 <= side <= 4096 for side in settings.size):
        raise InputError(
            f"--size is {' '.join(map(str, settings.size))}; give a side of 1 to 4096 pixels, or height and width."
        )
    for name, most in (("channels", 3), ("classes", 10**6)):
        value = getattr(settings, name)
        if not 0 <= value <= most or (name == "channels" and value == 2):
            allowed = "1 for grey images, 3 for colours" if name == "channels" else f"1 to {most}"
            raise InputError(f"--{name} is {value}; give {allowed}, or leave it out.")
    _check_route(settings.network)
    draft = settings.out.with_name(settings.out.name + ".part")
    draft.mkdir(parents=True, exist_ok=True)  # now: a folder that cannot be written costs nothing yet
    try:
        made = onnx.convert(settings, draft) if settings.network.endswith(".onnx") else from_torch(settings, draft)
        made += "\n" + split_table.as_text(bundle.load(draft))
        draft.rename(settings.out)
    finally:
        for file in draft.glob("*"):
            file.unlink()
        if draft.exists():
            draft.rmdir()
    print(made)


def _check_route(what):
    """Raise InputError for what other converters would take, with the route to here."""
    if what.startswith(("hf:", "hf-hub:")):
        name = what.partition(":")[2]
        raise InputError(
            f"{what}: networks of Hugging Face are converted by a function of yours, def net(): return "
            f"transformers.AutoModelForImageClassification.from_pretrained({name!r}), given as module:net; timm's, "
            f"which are there too, as timm:hf-hub:{name}."
        )
    if what.endswith((".ts", ".torchscript", ".jit", ".ptl")):
        raise InputError(
            f"{what}: TorchScript keeps no modules that can be exported; give the network's own code as module:function and this "
            "file's state_dict() as --weights, or a file of torch.export.save (.pt2), or of torch.onnx.export (.onnx)."
        )


def from_torch(settings: argparse.Namespace, draft: Path) -> str:
    """Export, write and compare a PyTorch network, in the folder `draft`; returns what was made, for the terminal.

    Raises:
      InputError: the network cannot be loaded, exported or matched.
    """
    try:
        from dci_jax.convert import graph, parity, source
    except ImportError as error:
        raise InputError(f"Converting needs PyTorch ({error}): pip install 'dci_jax[torch]'.") from error
    found = source.load(
        settings.network,
        weights=settings.weights,
        random=settings.random,
        size=tuple(settings.size),
        channels=settings.channels,
        classes=settings.classes,
        mean=tuple(settings.mean),
        std=tuple(settings.std),
        crop=settings.crop,
    )
    log.info("exported %s: images of %s", found.name, "x".join(map(str, found.shape)))
    data = graph.read(found.program, bool(found.tensors))
    manifest = _manifest(settings, found, data)
    with replacing(draft / bundle.WEIGHTS, "wb") as stream:
        stream.write(safetensors.numpy.save(data.weights))
    manifest["weights"] = read.sha256(draft / bundle.WEIGHTS)
    _write(draft, manifest)
    log.info("comparing with PyTorch at %d places", len(data.places))
    manifest["parity"] = parity.measure(draft, data, found)
    _write(draft, manifest)
    worst = max(manifest["parity"].values())
    if not worst < CLOSE:
        raise InputError(
            f"{settings.network} was converted, but its answers differ from PyTorch's by {worst:.1g} of the largest number "
            f"({manifest['parity']}); it is not kept."
        )
    return summary(settings.out, manifest, data)


def _manifest(settings, found, data):
    if not data.places:
        raise InputError(
            f"{settings.network} has no place where one image-like tensor alone is alive, nor several at a block's end, so no split point."
        )
    every = settings.all_splits or not any(place.default for place in data.places)
    return {
        "format": bundle.FORMAT,
        "name": found.name,
        "source": settings.network,
        "random": settings.random,
        "made_with": {name: metadata.version(name) for name in ("dci_jax", "torch")},
        "shape": found.shape,
        "mean": found.mean,
        "std": found.std,
        "crop": found.crop,
        "classes": data.classes,
        "places": [as_data(place) | {"default": place.default or every} for place in data.places],
        "nodes": [dataclasses.astuple(node) for node in data.nodes],
        "output": data.output,
    } | ({"tensors": found.tensors} if found.tensors else {})


def _write(folder, manifest):
    manifest["sha256"] = bundle.digest(manifest)
    with replacing(folder / bundle.MANIFEST, "w") as stream:
        json.dump(manifest, stream)


def summary(folder: Path, manifest: dict, data) -> str:
    """What was made, for the terminal."""
    chosen = [place["name"] for place in manifest["places"] if place["default"]]
    taps = sum(operator == BATCH_NORM for _, operator, *_ in manifest["nodes"])
    numbers = sum(np.size(array) for array in data.weights.values())
    return "\n".join(
        [
            f"{folder}: {manifest['name']}, {numbers / 1e6:.2f} M weights, {len(data.nodes)} operators, {manifest['classes']} classes",
            f"  {len(chosen)} split points (of {len(manifest['places'])} places): {', '.join(chosen)}",
            f"  {taps} BatchNorm layers, whose statistics synthesis can match"
            + ("" if taps else ": labels and procedural images must do"),
            "  largest difference from PyTorch, relative: "
            + ", ".join(f"{name} {value:.1e}" for name, value in manifest["parity"].items()),
        ]
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
