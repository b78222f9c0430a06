"""Train a target network on CIFAR-10 from scratch: `python -m training.target --help`.

How the checkpoints that come with this package were made (seeded; the README gives their accuracy):

    python -m training.target --model=cifar_resnet20 --epochs=12 \\
        --train_images=jpeg_train_50000.zip --test_images=jpeg_test_5000.zip \\
        --out=dci_jax/models/cifar_resnet20.safetensors
    python -m training.target --model=repvgg_cifar --epochs=6 \\
        --train_images=jpeg_train_50000.zip --test_images=jpeg_test_5000.zip \\
        --out=dci_jax/models/repvgg_cifar.safetensors
    python -m training.target --model=he_cnn --epochs=5 --learning_rate=0.05 --half \\
        --train_images=jpeg_train_50000.zip --test_images=jpeg_test_5000.zip \\
        --out=dci_jax/models/he_cnn.safetensors

BatchNorm normalises by the batch while the weights are trained; its running statistics are measured
afterwards, over `--statistics_batches` batches with the final weights.
"""

import argparse
import functools
import logging
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dci_jax import models
from dci_jax import network as networks
from dci_jax.checkpoints import assign
from dci_jax.data import images as data
from dci_jax.runtime import sharding
from dci_jax.runtime.training_loop import minimize
from training.arguments import check_count, check_file, check_labels, finish, number, whole


def trainable(network: networks.Network):
    """The weights without the running statistics, one tree per block and the head."""
    return tuple(b.params["params"] for b in (*network.blocks, network.head))


def with_trainable(network: networks.Network, trained) -> networks.Network:
    """`network` with the weights that `trainable` took out."""
    new = [
        block.replace(params={**block.params, "params": params})
        for block, params in zip((*network.blocks, network.head), trained, strict=True)
    ]
    return network.replace(blocks=tuple(new[:-1]), head=new[-1])


def loss(trained, network, batch):
    """Cross-entropy of a batch: images [B, H, W, 3] in [0, 1] and labels [B]."""
    images, labels = batch
    network = with_trainable(network, trained)
    scores = networks.logits(network, networks.run(network, images))
    entropy = optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()
    return entropy, {"loss": entropy, "accuracy": jnp.mean(scores.argmax(1) == labels)}


@jax.jit
def augment(key, pixels):
    """uint8 [B, H, W, 3] -> float in [0, 1], shifted by up to 4 pixels and flipped, at random."""
    batch, height, width, _ = pixels.shape
    key_shift, key_flip = jax.random.split(key)
    padded = jnp.pad(pixels, ((0, 0), (4, 4), (4, 4), (0, 0)))
    shifts = jax.random.randint(key_shift, (batch, 2), 0, 9)
    crop = functools.partial(jax.lax.dynamic_slice, slice_sizes=(height, width, 3))
    images = jax.vmap(lambda image, s: crop(image, (s[0], s[1], 0)))(padded, shifts)
    flip = jax.random.bernoulli(key_flip, 0.5, (batch, 1, 1, 1))
    return jnp.where(flip, images[:, :, ::-1], images) / 255.0


@jax.jit
def _batch_statistics(network, images):
    return networks.trace(network, images)[1]


@jax.jit
def _predictions(network, images):
    return networks.logits(network, networks.run(network, images)).argmax(1)


def parse(arguments=None) -> argparse.Namespace:
    """The settings out of the command line."""
    classifiers = [name for name, entry in models.MODELS.items() if not entry.latent]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", choices=classifiers, default="cifar_resnet20", help="network to train")
    add("--train_images", required=True, help="folder, zip or npz, with labels")
    add("--test_images", required=True, help="folder, zip or npz, with labels")
    add("--out", required=True, help="safetensors file to write")
    add("--epochs", type=whole(1), default=12, help="passes over the training images")
    add("--batch", type=whole(2), default=128, help="images per step")
    add("--learning_rate", type=number(0, 100, above=True), default=0.2, help="peak of the one-cycle schedule")
    add("--weight_decay", type=number(0, 1), default=5e-4, help="on all weights but biases and BatchNorm's")
    add("--statistics_batches", type=whole(1), default=80, help="batches for the running statistics")
    add("--seed", type=whole(0, 2**31 - 1), default=0, help="of weights, order and augmentation")
    add("--half", action="store_true", help="store the weights in 16 bits, and measure those")
    add("--workdir", help="keeps checkpoints, so that a killed run resumes")
    return parser.parse_args(arguments)


def main(arguments=None):
    settings = parse(arguments)
    logging.getLogger("dci_jax").setLevel(logging.INFO)
    check_file(settings.out, "--out")
    build = models.MODELS[settings.model].build
    network = sharding.put(build(jax.random.key(settings.seed), train=True), sharding.replicated())
    train = data.load(settings.train_images, network.input_shape, flag="--train_images")
    test = data.load(settings.test_images, network.input_shape, flag="--test_images")
    count = networks.classes(network)
    for images, flag in ((train, "--train_images"), (test, "--test_images")):
        check_labels(images, count, flag)
    check_count(train, settings.batch, "--train_images", "a batch")
    per_epoch = len(train) // settings.batch
    steps = per_epoch * settings.epochs

    @functools.lru_cache(maxsize=1)
    def order(epoch):
        return np.random.default_rng((settings.seed, epoch)).permutation(len(train))

    def batches(number):
        epoch, place = divmod(number, per_epoch)
        indices = order(epoch)[place * settings.batch : (place + 1) * settings.batch]
        key = jax.random.fold_in(jax.random.key(settings.seed + 1), number)
        return augment(key, train.pixels[indices]), train.labels[indices]

    if settings.workdir:
        Path(settings.workdir).mkdir(parents=True, exist_ok=True)
    optimizer = optax.chain(
        optax.add_decayed_weights(
            settings.weight_decay, mask=lambda tree: jax.tree.map(lambda leaf: leaf.ndim > 1, tree)
        ),
        optax.sgd(
            optax.cosine_onecycle_schedule(steps, settings.learning_rate, pct_start=0.2),
            momentum=0.9,
            nesterov=True,
        ),
    )
    trained, _ = minimize(
        loss,
        trainable(network),
        network,
        batches,
        steps=steps,
        optimizer=optimizer,
        label=settings.model,
        folder=settings.workdir,
    )
    network = with_trainable(network, trained)
    statistics = [_batch_statistics(network, batches(number)[0]) for number in range(settings.statistics_batches)]
    mean = jax.tree.map(lambda *leaves: jnp.mean(jnp.stack(leaves), 0), *statistics)
    network = network.replace(
        blocks=tuple(
            block.replace(params={**block.params, "batch_stats": block_mean})
            for block, block_mean in zip(network.blocks, mean, strict=True)
        )
    )
    # The same weights in the network that normalises by the running statistics.
    final = build(jax.random.key(0))
    final = final.replace(
        blocks=tuple(b.replace(params=n.params) for b, n in zip(final.blocks, network.blocks, strict=True)),
        head=network.head,
    )
    if settings.half:
        final = jax.tree.map(lambda leaf: leaf.astype("float16").astype("float32"), final)
    right = [
        np.asarray(_predictions(final, test.pixels[i : i + 500] / np.float32(255))) == test.labels[i : i + 500]
        for i in range(0, len(test), 500)
    ]
    accuracy = float(np.concatenate(right).mean())
    metadata = {
        "model": settings.model,
        "accuracy": f"{accuracy:.4f} on {len(test)} images of {Path(settings.test_images).name}",
        "trained_on": f"{len(train)} images of {Path(settings.train_images).name}",
        "epochs": str(settings.epochs),
        "batch": str(settings.batch),
        "learning_rate": str(settings.learning_rate),
        "weight_decay": str(settings.weight_decay),
        "seed": str(settings.seed),
        "licence": "Apache-2.0",
    }
    dtype = "float16" if settings.half else "float32"
    assign.save(final, settings.out, models.MODELS[settings.model].prefix, metadata, dtype)
    print(f"{settings.out}: {metadata}")


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(message)s")
    sys.exit(finish(main, "training.target"))
