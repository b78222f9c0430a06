"""Train an SNGAN generator of 32 px images from scratch: `python -m training.generator --help`.

    python -m training.generator --workdir=runs/train_sngan \\
        --train_images=jpeg_train_50000.zip --test_images=jpeg_test_5000.zip
    python -m training.generator --workdir=runs/train_sngan_narrow --ngf=32 --ndf=32 --batch=32 \\
        --n_dis=2 --learning_rate=4e-4 --steps=5000 --half \\
        --train_images=jpeg_train_50000.zip --test_images=jpeg_test_5000.zip

The first is the paper's form, for a GPU, and has not been run yet; the second a narrow one for a CPU.

Spectral normalisation in the discriminator, hinge loss, five discriminator updates for one of the generator
(Miyato et al., ICLR 2018), and a running mean of the generator's weights, which is what is kept. It leaves
generator.safetensors (mimicry's key names), samples.png, curve.jsonl; the same line resumes.
BatchNorm normalises by the batch in training; its running statistics are measured afterwards.
"""

import argparse
import functools
import json
import logging
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image

from dci_jax import models
from dci_jax.checkpoints import assign
from dci_jax.data import images as data
from dci_jax.errors import InputError
from dci_jax.inputs.latents import LATENTS
from dci_jax.models import sngan
from dci_jax.network import Network, run, trace
from dci_jax.runtime import progress, sharding
from dci_jax.runtime.checkpoint import Checkpointer
from dci_jax.runtime.files import replacing
from dci_jax.runtime.training_loop import step
from training.arguments import finish, number, whole
from training.discriminator import Discriminator, power_iteration

_EVERY = 200  # updates of the generator between checkpoints


def discriminator_loss(discriminator, variables, generator, batch):
    """Hinge: mean max(0, 1 - D(x)) + mean max(0, 1 + D(G(z))), for a batch (x, z)."""
    real, latents = batch
    fake = jax.lax.stop_gradient(run(generator, latents))
    real, fake = jnp.split(discriminator.apply(variables, jnp.concatenate([real, fake])), 2)
    loss = jnp.mean(jax.nn.relu(1 - real)) + jnp.mean(jax.nn.relu(1 + fake))
    return loss, {"discriminator": loss}


def generator_loss(discriminator, trained, frozen, latents):
    """-mean D(G(z)), for a batch of latents z; `frozen` is (D's variables, G)."""
    variables, generator = frozen
    fake = run(with_trainable(generator, trained), latents)
    loss = -jnp.mean(discriminator.apply(variables, fake))
    return loss, {"generator": loss}


def trainable(network: Network):
    """The weights without the running statistics, one tree for each block."""
    return tuple(block.params["params"] for block in network.blocks)


def with_trainable(network: Network, trained) -> Network:
    """`network` with the weights that `trainable` took out."""
    return network.replace(
        blocks=tuple(
            block.replace(params={**block.params, "params": params})
            for block, params in zip(network.blocks, trained, strict=True)
        )
    )


def train(pixels: np.ndarray, folder: Path, settings):
    """(generator, its averaged weights) after all updates; leaves checkpoints and curve.jsonl in `folder`."""
    key_g, key_d, key_batches = jax.random.split(jax.random.key(settings.seed), 3)
    generator = sharding.put(sngan.sngan(key_g, 32, settings.ngf, train=True), sharding.replicated())
    discriminator = Discriminator(settings.ndf)
    judged = dict(jax.jit(discriminator.init)(key_d, jnp.zeros((1, 32, 32, 3))))
    for _ in range(20):  # until u belongs to the first weights
        judged = power_iteration(judged)
    judged = sharding.put(judged, sharding.replicated())
    trained, turns = jax.tree.map(jnp.copy, trainable(generator)), settings.n_dis
    optimizer_g, optimizer_d = (
        optax.adam(optax.linear_schedule(settings.learning_rate, 0, updates), b1=0.0, b2=0.9)
        for updates in (settings.steps, settings.steps * turns)
    )
    loss_g = functools.partial(generator_loss, discriminator)
    loss_d = functools.partial(discriminator_loss, discriminator)
    layout, done = sharding.replicated(), 0
    everything = (
        (trained, optimizer_g.init(trained)),
        (judged, optimizer_d.init(judged)),
        jax.tree.map(jnp.copy, trained),
    )
    with (
        Checkpointer(folder / "checkpoints") as checkpoints,
        progress.bar("SNGAN", settings.steps) as update,
    ):
        done, everything = checkpoints.restore(everything) or (0, everything)
        (trained, state_g), (judged, state_d), mean = everything
        while done < settings.steps:
            frozen = with_trainable(generator, trained)
            for turn in range(turns):
                key = jax.random.fold_in(key_batches, done * (turns + 1) + turn)
                batch = draw(key, settings.batch, pixels)
                judged, state_d, terms = step()(
                    loss_d, optimizer_d, power_iteration, layout, judged, state_d, frozen, (batch,)
                )
            key = jax.random.fold_in(key_batches, done * (turns + 1) + turns)
            latents = LATENTS["normal"](key, settings.batch, (sngan.LATENT,))
            trained, state_g, more = step()(
                loss_g, optimizer_g, _same, layout, trained, state_g, (judged, generator), (latents,)
            )
            done += 1
            # At first such a mean would be mostly the random start.
            mean = averaged(mean, trained, min(settings.ema, (1 + done) / (10 + done)))
            update(done, terms | more)
            if done % _EVERY == 0 or done == settings.steps:
                checkpoints.save(done, ((trained, state_g), (judged, state_d), mean))
                terms = {name: round(float(value), 4) for name, value in (terms | more).items()}
                with (folder / "curve.jsonl").open("a") as stream:
                    stream.write(json.dumps({"step": done, **terms}) + "\n")
                grid(
                    made(finished(mean, generator, settings), 100, settings.seed),
                    folder / "samples.png",
                )
    return generator, mean


def parse(arguments=None) -> argparse.Namespace:
    """The settings out of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--train_images", required=True, help="folder, zip or npz")
    add("--test_images", required=True, help="the same, for the Fréchet distance")
    add("--workdir", required=True, help="keeps everything")
    add("--steps", type=whole(1), default=50_000, help="updates of the generator")
    add("--batch", type=whole(1), default=64, help="images per update")
    add(
        "--n_dis",
        type=whole(1),
        default=5,
        help="discriminator's updates for one of the generator's",
    )
    add("--learning_rate", type=number(0, 1, above=True), default=2e-4, help="Adam's, falling to zero linearly")
    add("--ema", type=number(0, 1), default=0.999, help="of the running mean of the generator's weights")
    add("--ngf", type=whole(1), default=256, help="channels of the generator")
    add("--ndf", type=whole(1), default=128, help="channels of the discriminator")
    add(
        "--statistics_batches",
        type=whole(1),
        default=100,
        help="batches for the running statistics",
    )
    add("--samples", type=whole(1), default=5000, help="images for the Fréchet distance")
    add("--seed", type=whole(0, 2**31 - 1), default=0, help="of weights, order and latents")
    add("--half", action="store_true", help="store the weights in 16 bits, and measure those")
    return parser.parse_args(arguments)


def main(arguments=None):
    settings = parse(arguments)
    logging.getLogger("dci_jax").setLevel(logging.INFO)
    real = data.load(settings.train_images, (32, 32, 3), flag="--train_images").pixels
    test = data.load(settings.test_images, (32, 32, 3), count=settings.samples, flag="--test_images").pixels
    if not settings.workdir.strip() or Path(settings.workdir).is_file():
        raise InputError(f"--workdir is {settings.workdir!r}; give a folder.")
    folder = Path(settings.workdir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--workdir: {folder} cannot be made ({error.strerror}); give another folder.") from error
    generator, mean = train(jnp.asarray(real), folder, settings)
    final = finished(mean, generator, settings)
    if settings.half:
        final = jax.tree.map(lambda leaf: leaf.astype("float16").astype("float32"), final)
    grid(made(final, 100, settings.seed), folder / "samples.png")
    distance = frechet(features(made(final, settings.samples, settings.seed)), features(test))
    metadata = {
        "model": f"SNGAN for 32 px, ngf {settings.ngf}",
        "trained_on": f"{len(real)} images of {Path(settings.train_images).name}",
        "frechet": f"{distance:.3f} in the embedded ResNet-20's pooled features, {settings.samples} samples, "
        f"{len(test)} images of {Path(settings.test_images).name}; not an FID",
        "steps": f"{settings.steps} of the generator, {settings.n_dis} of the discriminator for each",
        "batch": str(settings.batch),
        "ndf": str(settings.ndf),
        "learning_rate": str(settings.learning_rate),
        "seed": str(settings.seed),
        "licence": "Apache-2.0",
    }
    file, dtype = folder / "generator.safetensors", "float16" if settings.half else "float32"
    assign.save(final, file, sngan.torch_prefix, metadata, dtype)
    print(f"{file}: {metadata}")


@functools.partial(jax.jit, donate_argnums=0)
def averaged(mean, new, decay):
    """The running mean of weights after one more update."""
    return jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, mean, new)


@functools.partial(jax.jit, static_argnums=1)
def draw(key, count, pixels):
    """(images [count, H, W, 3] in [0, 1], half of them mirrored; latents [count, 128]) out of uint8 `pixels`."""
    key_pick, key_flip, key_latents = jax.random.split(key, 3)
    images = pixels[jax.random.randint(key_pick, (count,), 0, len(pixels))] / 255.0
    flip = jax.random.bernoulli(key_flip, 0.5, (count, 1, 1, 1))
    latents = LATENTS["normal"](key_latents, count, (sngan.LATENT,))
    return jnp.where(flip, images[:, :, ::-1], images), latents


def finished(mean, network: Network, settings) -> Network:
    """The generator with averaged weights, BatchNorm's running statistics measured over latents of its prior."""
    network, key = with_trainable(network, mean), jax.random.key(settings.seed + 1)
    statistics = [
        _statistics(network, LATENTS["normal"](jax.random.fold_in(key, n), settings.batch, (sngan.LATENT,)))
        for n in range(settings.statistics_batches)
    ]
    statistics = jax.tree.map(lambda *leaves: jnp.mean(jnp.stack(leaves), 0), *statistics)
    trained = [
        {**block.params, "batch_stats": found} if found else block.params
        for block, found in zip(network.blocks, statistics, strict=True)
    ]
    final = sngan.sngan(jax.random.key(0), 32, settings.ngf)  # the same, normalised by those statistics
    blocks = zip(final.blocks, trained, strict=True)
    return final.replace(blocks=tuple(block.replace(params=params) for block, params in blocks))


def made(network: Network, count: int, seed: int) -> np.ndarray:
    """uint8 images [count, 32, 32, 3] of latents that are the same in every call."""
    latents = LATENTS["normal"](jax.random.key(seed + 2), count, (sngan.LATENT,))
    images = [_images(network, latents[i : i + 100]) for i in range(0, count, 100)]
    return np.concatenate([np.round(255 * np.asarray(some)).astype(np.uint8) for some in images])


def features(pixels: np.ndarray) -> np.ndarray:
    """What the embedded ResNet-20 makes of uint8 images [N, 32, 32, 3] in the end, averaged over places: [N, 64]."""
    judge = models.load("cifar_resnet20")
    found = [_images(judge, pixels[i : i + 100] / np.float32(255)) for i in range(0, len(pixels), 100)]
    return np.concatenate([np.asarray(some).mean((1, 2)) for some in found])


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance of two sets of features [N, C], [M, C] as Gaussians (Heusel et al., 2017, eq. 6).

    |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)). Published FIDs are of Inception's features.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    left, right = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    roots = np.sqrt(np.maximum(np.linalg.eigvals(left @ right).real, 0))
    between = np.sum((a.mean(0) - b.mean(0)) ** 2)
    return float(between + np.trace(left) + np.trace(right) - 2 * roots.sum())


def grid(pixels: np.ndarray, file: Path, across: int = 10) -> None:
    """Write uint8 images [N, H, W, 3] as one picture, row by row, three times as large; N a multiple of `across`."""
    rows = [np.concatenate(pixels[i : i + across], 1) for i in range(0, len(pixels), across)]
    with replacing(file, "wb") as stream:
        Image.fromarray(np.concatenate(rows).repeat(3, 0).repeat(3, 1)).save(stream, "png")


_images = jax.jit(run)


@jax.jit
def _statistics(network, latents):
    return trace(network, latents)[1]


def _same(variables):
    return variables


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(message)s")
    sys.exit(finish(main, "training.generator"))
