"""A live page: a photograph, what the server receives of it, and what it can read back: `dci-jax demo` (extra [demo]).

    dci-jax demo                       # the network that ships with the package
    dci-jax demo --workdir=runs/mine   # the network and the chains of a finished run with `dci`

It listens on this machine alone, and keeps no picture.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from PIL import Image

import dci_jax
from dci_jax import models
from dci_jax.dci.chain import Chain
from dci_jax.defenses.channel import Channel, sent
from dci_jax.errors import InputError, reason
from dci_jax.inputs.mixture import Prior
from dci_jax.network import Network, split_index
from dci_jax.report.finished import check
from dci_jax.typing import Array

# Those that need no learning: name -> its weakest and strongest strength on the page.
DEFENSES = {"none": (0, 0), "gaussian": (0.1, 2), "quantize": (8, 1), "topk": (0.5, 0.02), "dropout": (0.1, 0.9)}
QUICK = {"num_images": 128, "num_validation": 32, "batch_size": 32, "num_corrections": 2, "kernel_size": 3}
_SPLITS = ("stem", "layer1.0", "layer1.2", "layer2.0", "layer2.2", "layer3.0")
_SIDE = 256  # pixels of a picture on the page, at least


def embedded(cache: Path) -> tuple[Network, tuple[str, ...], Callable[[str], Chain]]:
    """(network, its splits, split -> chain) of the network that ships with the package; chains are solved once, in `cache`."""
    network, priors = dci_jax.load_network("cifar_resnet20"), []

    def chain(split):
        file = cache / f"{split}.safetensors"
        with contextlib.suppress(InputError):  # none yet, a damaged one, or an earlier version's
            return dci_jax.load_chain(file, network)
        if not priors:
            priors.append(dci_jax.fit_prior(network, key=jax.random.key(0)))
        solved = dci_jax.solve_chain(network, split, priors[0], key=jax.random.key(1), **QUICK)
        cache.mkdir(parents=True, exist_ok=True)
        solved.save(file)
        return solved

    return network, _SPLITS, chain


def finished(workdir: Path) -> tuple[Network, tuple[str, ...], Callable[[str], Chain]]:
    """The same of a finished run with `dci`.

    Raises:
      InputError: it is not finished, is of a generator, or has no chain.
    """
    if not (workdir / "summary.csv").exists():
        raise InputError(f"{workdir} holds no finished run (no summary.csv); give another --workdir, or leave it out.")
    check(workdir)
    config = json.loads((workdir / "config.json").read_text())
    target, settings = config["target"], dict(config["dci"])
    network = models.load(target["name"], target["weights"], "", tuple(config["splits"]), target["weights_key"])
    network = dci_jax.with_side(network, target["side"]) if target["side"] else network
    folder = workdir / "attacks" / "dci"
    splits = tuple(name for name in dci_jax.split_names(network) if (folder / name).is_dir())
    if network.latent or not splits:
        raise InputError(
            f"{workdir} has no chain of dci from features to images; give a run whose attacks include dci."
        )
    side = config["inputs"]["side"] or network.input_shape[0]
    prior = Prior((), (("dead_leaves", 1.0),), (side, side, network.input_shape[2]))
    settings["batch_size"] = settings.pop("batch")
    del settings["splits"]

    def chain(split):
        return dci_jax.solve_chain(network, split, prior, key=jax.random.key(0), cache_dir=folder, **settings)

    return network, splits, chain


def fitted(network: Network, picture: np.ndarray) -> np.ndarray:
    """A picture [h, w, 3], uint8, cropped and reduced to what the network takes: [1, H, W, C] in [0, 1]."""
    height, width, channels = network.input_shape
    image = Image.fromarray(picture).convert("L" if channels == 1 else "RGB")
    scale = min(image.width / width, image.height / height)
    left, top = (image.width - scale * width) / 2, (image.height - scale * height) / 2
    box = left, top, left + scale * width, top + scale * height
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, box), np.float32) / 255
    return pixels.reshape(1, height, width, channels)


def montage(features: Array, most: int = 16) -> np.ndarray:
    """The channels that vary most, side by side, each from its own least to its largest value: uint8 [H, W]."""
    features = np.asarray(features)[0]
    chosen = np.argsort(-features.std((0, 1)), kind="stable")[:most]
    tiles = features[..., chosen]
    low, high = tiles.min((0, 1)), tiles.max((0, 1))
    tiles = np.uint8(255 * (tiles - low) / np.maximum(high - low, 1e-9))
    across = int(np.ceil(np.sqrt(len(chosen))))
    tiles = np.concatenate([tiles, np.zeros((*tiles.shape[:2], -len(chosen) % across), np.uint8)], -1)
    rows = np.split(tiles, tiles.shape[-1] // across, -1)
    return np.concatenate([np.concatenate(np.moveaxis(row, -1, 0), 1) for row in rows])


def strength(defense: str, share: float) -> float:
    """The strength of a defense for a slider from 0, weak, to 1, strong."""
    weak, strong = DEFENSES[defense]
    value = weak + share * (strong - weak)
    return float(round(value)) if defense == "quantize" else float(value)


def read_back(
    network: Network, chain: Chain, picture: np.ndarray, defense: str, value: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """(what the device sees, what the server receives, what is read back, how near): uint8 pictures, and a sentence."""
    image = fitted(network, picture)
    received = sent(network, split_index(network, chain.split), Channel(defense, value), jax.random.key(0), image)
    found = np.asarray(chain(received))
    psnr, ssim = (float(score(found, image)[0]) for score in (dci_jax.metrics.psnr, dci_jax.metrics.ssim))
    values = int(np.prod(received.shape))
    said = f"{psnr:.1f} dB PSNR, {ssim:.2f} SSIM, from {values:,} numbers for {image.size:,} of the picture, without any real image."
    return _shown(image[0]), _enlarged(montage(received)), _shown(found[0]), said


def _shown(pixels):
    pixels = np.uint8(np.round(255 * np.clip(pixels, 0, 1)))
    return _enlarged(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _enlarged(pixels):
    times = max(1, _SIDE // min(pixels.shape[:2]))
    return pixels.repeat(times, 0).repeat(times, 1)


def page(network: Network, splits: tuple[str, ...], chain: Callable[[str], Chain]):
    """The page, a `gradio.Blocks`."""
    import gradio as gr

    chains = {}

    def answer(picture, number, defense, share):
        if picture is None:
            return None, None, None, "Give a photograph."
        split = splits[min(int(number), len(splits)) - 1]
        if split not in chains:
            chains[split] = chain(split)
        value = strength(defense, share)
        device, received, found, said = read_back(network, chains[split], picture, defense, value)
        where = f"After **{split}**" + ("" if defense == "none" else f" with {defense} {value:g}")
        unaware = (
            ""
            if defense == "none"
            else " The attacker here does not know of the defense; one that does reads more (docs/audit.md)."
        )
        return device, received, found, f"{where}: {said}{unaware}"

    with gr.Blocks(title="dci_jax", analytics_enabled=False, delete_cache=(60, 60)) as blocks:
        gr.Markdown(
            f"# What does the server see?\nThe device runs the first blocks of `{network.name}` and sends the features. Move the "
            "split, add a defense, and see what can be read back. Nothing leaves this machine."
        )
        with gr.Row():
            with gr.Column():
                picture = gr.Image(
                    label="photograph", sources=["upload", "webcam"], type="numpy", buttons=[], elem_id="picture"
                )
                split = gr.Slider(
                    1, max(2, len(splits)), 1, step=1, label="split point, from the input", elem_id="split"
                )
                defense = gr.Dropdown(list(DEFENSES), value="none", label="defense", elem_id="defense")
                share = gr.Slider(0, 1, 0.5, label="its strength, from weak to strong", elem_id="strength")
                button = gr.Button("Read it back", variant="primary", elem_id="read")
            with gr.Column(scale=2):
                with gr.Row():
                    shown = [
                        gr.Image(label=label, interactive=False, buttons=[], elem_id=name)
                        for name, label in (
                            ("device", "the device sees"),
                            ("server", "the server receives"),
                            ("found", "read back"),
                        )
                    ]
                said = gr.Markdown(elem_id="said")
        given = [picture, split, defense, share]
        button.click(answer, given, [*shown, said])
        for each in (picture, split, defense, share):
            (each.release if isinstance(each, gr.Slider) else each.change)(answer, given, [*shown, said])
    return blocks


def main(arguments: list[str]) -> int:
    """The command line. Returns the exit code: 2 where something is missing."""
    parser = argparse.ArgumentParser(prog="dci-jax demo", description=__doc__.split("\n")[0])
    parser.add_argument("--workdir", type=Path, help="a finished run with dci; default: the network of the package")
    parser.add_argument("--port", type=int, default=7860)
    given = parser.parse_args(arguments)
    try:
        import gradio  # noqa: F401
    except ImportError:
        print("dci-jax demo needs Gradio: pip install 'dci_jax[demo]'.", file=sys.stderr)
        return 2
    try:
        made = finished(given.workdir) if given.workdir else embedded(Path.home() / ".cache" / "dci_jax" / "demo")
    except InputError as error:
        print(f"dci-jax demo: {error}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # what the browser sends is there while the page is open
        try:
            page(*made).launch(server_name="127.0.0.1", server_port=given.port, share=False, strict_cors=True)
        except (OSError, OverflowError) as error:
            print(
                f"dci-jax demo: port {given.port} cannot be used ({reason(error)}); give another --port.",
                file=sys.stderr,
            )
            return 2
    return 0
