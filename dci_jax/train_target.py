"""Train a target network on CIFAR-10 from scratch: `python -m dci_jax.train_target --help`.

How the checkpoints that come with this package were made (seeded; the README gives their accuracy):

    python -m dci_jax.train_target --model=cifar_resnet20 --epochs=12 \\
        --train_images=jpeg_train_50000.zip --test_images=jpeg_test_5000.zip \\
        --out=dci_jax/models/cifar_resnet20.safetensors
    python -m dci_jax.train_target --model=repvgg_cifar --epochs=6 \\
        --train_images=jpeg_train_50000.zip --test_images=jpeg_test_5000.zip \\
        --out=dci_jax/models/repvgg_cifar.safetensors
    python -m dci_jax.train_target --model=he_cnn --epochs=5 --learning_rate=0.05 --half \\
        --train_images=jpeg_train_50000.zip --test_images=jpeg_test_5000.zip \\
        --out=dci_jax/models/he_cnn.safetensors

BatchNorm normalises by the batch while the weights are trained; its running statistics are measured
afterwards, over `--statistics_batches` batches with the final weights.
"""

import functools
import logging
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from dci_jax import blocks, data, models, parallel
from dci_jax.models import weights
from dci_jax.optimize import minimize

_CLASSIFIERS = [name for name, architecture in models.MODELS.items() if not architecture.latent]
_MODEL = flags.DEFINE_enum("model", "cifar_resnet20", _CLASSIFIERS, "network to train")
_TRAIN = flags.DEFINE_string("train_images", None, "folder, zip or npz, with labels", required=True)
_TEST = flags.DEFINE_string("test_images", None, "folder, zip or npz, with labels", required=True)
_OUT = flags.DEFINE_string("out", None, "safetensors file to write", required=True)
_EPOCHS = flags.DEFINE_integer("epochs", 12, "passes over the training images")
_BATCH = flags.DEFINE_integer("batch", 128, "images per step")
_RATE = flags.DEFINE_float("learning_rate", 0.2, "peak of the one-cycle schedule")
_DECAY = flags.DEFINE_float("weight_decay", 5e-4, "on all weights but biases and BatchNorm's")
_STATISTICS = flags.DEFINE_integer("statistics_batches", 80, "batches for the running statistics")
_SEED = flags.DEFINE_integer("seed", 0, "of weights, order and augmentation")
_HALF = flags.DEFINE_bool("half", False, "store the weights in 16 bits, and measure those")
_FOLDER = flags.DEFINE_string("workdir", None, "keeps checkpoints, so that a killed run resumes")


def trainable(network: blocks.Network):
    """The weights without the running statistics, one tree per block and the head."""
    return tuple(b.params["params"] for b in (*network.blocks, network.head))


def with_trainable(network: blocks.Network, trained) -> blocks.Network:
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
    scores = blocks.logits(network, blocks.run(network, images))
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
    return blocks.trace(network, images)[1]


@jax.jit
def _predictions(network, images):
    return blocks.logits(network, blocks.run(network, images)).argmax(1)


def main(_):
    logging.getLogger("dci_jax").setLevel(logging.INFO)
    build = models.MODELS[_MODEL.value].build
    network = parallel.put(build(jax.random.key(_SEED.value), train=True), parallel.copied())
    train = data.load(_TRAIN.value, network.input_shape[0], flag="--train_images")
    test = data.load(_TEST.value, network.input_shape[0], flag="--test_images")
    per_epoch = len(train) // _BATCH.value
    steps = per_epoch * _EPOCHS.value

    @functools.lru_cache(maxsize=1)
    def order(epoch):
        return np.random.default_rng((_SEED.value, epoch)).permutation(len(train))

    def batches(number):
        epoch, place = divmod(number, per_epoch)
        indices = order(epoch)[place * _BATCH.value : (place + 1) * _BATCH.value]
        key = jax.random.fold_in(jax.random.key(_SEED.value + 1), number)
        return augment(key, train.pixels[indices]), train.labels[indices]

    if _FOLDER.value:
        Path(_FOLDER.value).mkdir(parents=True, exist_ok=True)
    optimizer = optax.chain(
        optax.add_decayed_weights(
            _DECAY.value, mask=lambda tree: jax.tree.map(lambda leaf: leaf.ndim > 1, tree)
        ),
        optax.sgd(
            optax.cosine_onecycle_schedule(steps, _RATE.value, pct_start=0.2),
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
        label=_MODEL.value,
        folder=_FOLDER.value,
    )
    network = with_trainable(network, trained)
    statistics = [
        _batch_statistics(network, batches(number)[0]) for number in range(_STATISTICS.value)
    ]
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
        blocks=tuple(
            b.replace(params=n.params) for b, n in zip(final.blocks, network.blocks, strict=True)
        ),
        head=network.head,
    )
    if _HALF.value:
        final = jax.tree.map(lambda leaf: leaf.astype("float16").astype("float32"), final)
    right = [
        np.asarray(_predictions(final, test.pixels[i : i + 500] / np.float32(255)))
        == test.labels[i : i + 500]
        for i in range(0, len(test), 500)
    ]
    accuracy = float(np.concatenate(right).mean())
    metadata = {
        "model": _MODEL.value,
        "accuracy": f"{accuracy:.4f} on {len(test)} images of {Path(_TEST.value).name}",
        "trained_on": f"{len(train)} images of {Path(_TRAIN.value).name}",
        "epochs": str(_EPOCHS.value),
        "batch": str(_BATCH.value),
        "learning_rate": str(_RATE.value),
        "weight_decay": str(_DECAY.value),
        "seed": str(_SEED.value),
        "licence": "Apache-2.0",
    }
    dtype = "float16" if _HALF.value else "float32"
    weights.save(final, _OUT.value, models.MODELS[_MODEL.value].prefix, metadata, dtype)
    print(f"{_OUT.value}: {metadata}")


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(message)s")
    app.run(main)
