"""Networks that were trained to resist inversion: what they still recognise, and what an attacker who knows them reads.

    python -m benchmarks.resistant --out=benchmarks/results/resistant.json \\
        resnet20-12fca82f.th jpeg_train_50000.zip jpeg_test_5000.zip

The published CIFAR-10 ResNet-20 after `layer1.2`, whose features are sent with Gaussian noise of one deviation. Rows: as it is; its
server trained on noisy features; device and server, too; with the term of CEM (conditional entropy, Xia et al., CVPR 2025); and
against an adversary who learns to reconstruct (as in PATROL, Ding et al., WACV 2024, without its pruning). All learn from the real
training images and labels. The attacker knows the final weights and the noise, and has no image. Rows that the file has stay.
"""

import argparse
import functools
import json
import logging
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import dci_jax
from dci_jax import models
from dci_jax.attacks import inverse_network
from dci_jax.data import images as data
from dci_jax.defenses.channel import Channel, sent
from dci_jax.defenses.noise import deviation
from dci_jax.metrics import psnr, ssim
from dci_jax.network import Network, logits, run, split_index, trace
from dci_jax.runtime.training_loop import minimize
from training.target import augment

NAME, SPLIT, NOISE, TESTED = "cifar_resnet20", "layer1.2", 1.0, 200
STEPS, BATCH, RATE, MEASURED = 1200, 128, 0.02, 40
SOLVE = dict(num_images=1152, num_validation=128, num_corrections=4, kernel_size=5, max_unknowns=(6000, 3000))


def noisy(key, features, strength):
    """What `gaussian` sends."""
    return features + strength * deviation(features) * jax.random.normal(key, features.shape)


def entropy_term(features, labels, strength):
    """An upper bound of what a noisy message tells about an image of known class, nats for each number that is sent.

    log(1 + v / n) / 2 for the variance v of a feature within its class and n of the noise; CEM's bound of the conditional entropy.
    """
    known = jax.nn.one_hot(labels, 10)
    count = jnp.maximum(known.sum(0), 1.0)
    mean = jnp.einsum("bk,bhwc->khwc", known, features) / count[:, None, None, None]
    within = jnp.mean((features - mean[labels]) ** 2, 0)
    noise = jnp.mean((strength * deviation(features)) ** 2)
    return 0.5 * jnp.mean(jnp.log1p(within / noise))


def reversed_gradient(x):
    """x, with a gradient of the other sign: who minimises behind it is worked against before it."""
    return jax.lax.stop_gradient(2 * x) - x


def with_params(network: Network, trained) -> Network:
    new = [
        part.replace(params={**part.params, "params": params})
        for part, params in zip((*network.blocks, network.head), trained, strict=True)
    ]
    return network.replace(blocks=tuple(new[:-1]), head=new[-1])


@functools.cache
def objective(depth, decoder, entropy, adversary):
    """Cross-entropy behind the noise, and what is added to it."""

    def loss(variables, frozen, batch):
        network, strength = frozen
        device = variables["device"] or [block.params["params"] for block in network.blocks[:depth]]
        network = with_params(network, (*device, *variables["server"]))
        features = run(network, batch["images"], 0, depth)
        message = noisy(batch["key"], features, strength)
        scores = logits(network, run(network, message, depth))
        terms = {"entropy": optax.softmax_cross_entropy_with_integer_labels(scores, batch["labels"]).mean()}
        terms["accuracy"] = jnp.mean(scores.argmax(1) == batch["labels"])
        total = terms["entropy"]
        if entropy:
            terms["told"] = entropy_term(features, batch["labels"], strength)
            total += entropy * terms["told"]
        if adversary:
            seen = decoder.apply(variables["decoder"], reversed_gradient(message))
            terms["mse"] = jnp.mean((seen - batch["images"]) ** 2)
            # A decoder's own step does not depend on the weight, as Adam and SGD on it are scaled apart.
            total += adversary * terms["mse"]
        return total, terms

    return loss


def trained(network, images, labels, *, device, entropy=0.0, adversary=0.0):
    """The network after `STEPS` of training behind the noise; `device`: whether its first blocks learn, too."""
    depth, key = split_index(network, SPLIT), jax.random.key(0)
    by_batch = models.MODELS[NAME].build(jax.random.key(0), train=True)
    blocks = [
        old if index < depth and not device else new.replace(params=old.params)
        for index, (old, new) in enumerate(zip(network.blocks, by_batch.blocks, strict=True))
    ]
    learning = network.replace(blocks=tuple(blocks))
    decoder, size = inverse_network.decoder_for(network, depth, 64)
    params = [part.params["params"] for part in (*learning.blocks, learning.head)]
    variables = {"device": params[:depth] if device else [], "server": params[depth:]}
    if adversary:
        variables["decoder"] = decoder.init(key, jnp.zeros((1, *size)))

    def batches(number):
        some = np.random.default_rng((0, number)).integers(0, len(images), BATCH)
        new = jax.random.fold_in(key, number)
        return {
            "images": augment(new, images[some]),
            "labels": labels[some],
            "key": jax.random.fold_in(new, 1),
        }

    slow = optax.chain(
        optax.add_decayed_weights(5e-4, mask=lambda tree: jax.tree.map(lambda leaf: leaf.ndim > 1, tree)),
        optax.sgd(optax.cosine_onecycle_schedule(STEPS, RATE, pct_start=0.1), momentum=0.9, nesterov=True),
    )
    kinds = {name: "decoder" if name == "decoder" else "network" for name in variables}
    optimizer = optax.multi_transform({"network": slow, "decoder": optax.adam(1e-3)}, kinds)
    loss = objective(depth, decoder, entropy, adversary)
    found, terms = minimize(
        loss, variables, (learning, jnp.float32(NOISE)), batches, steps=STEPS, optimizer=optimizer, label="resistant"
    )
    print({name: round(float(value), 3) for name, value in terms.items()}, flush=True)
    learned = with_params(learning, (*(found["device"] or params[:depth]), *found["server"]))
    drawn = map(batches, range(MEASURED))
    statistics = [_statistics(learned, depth, batch["key"], batch["images"]) for batch in drawn]
    mean = jax.tree.map(lambda *leaves: jnp.mean(jnp.stack(leaves), 0), *statistics)
    final = [
        block.replace(params={**new.params, "batch_stats": block_mean})
        if index >= depth or device
        else block.replace(params=new.params)
        for index, (block, new, block_mean) in enumerate(zip(network.blocks, learned.blocks, mean, strict=True))
    ]
    return network.replace(blocks=tuple(final), head=learned.head)


@functools.partial(jax.jit, static_argnums=1)
def _statistics(network, depth, key, images):
    features, before = trace(network, images, 0, depth)
    _, after = trace(network, noisy(key, features[-1], NOISE), depth)
    return (*before, *after)


@functools.partial(jax.jit, static_argnums=1)
def _predicted(network, depth, key, images):
    return logits(network, run(network, noisy(key, run(network, images, 0, depth), NOISE), depth)).argmax(1)


def accuracy(network, images, labels):
    """Share of right answers to noisy messages."""
    depth, right = split_index(network, SPLIT), []
    for first in range(0, len(images), 500):
        some = images[first : first + 500] / np.float32(255)
        right.append(np.asarray(_predicted(network, depth, jax.random.key(first), some)) == labels[first : first + 500])
    return float(np.concatenate(right).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("weights", "train_images", "test_images"):
        parser.add_argument(name)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    network, key = dci_jax.load_network(NAME, given.weights), jax.random.key(0)
    depth = split_index(network, SPLIT)
    train, test = (
        data.load(path, network.input_shape, flag="images") for path in (given.train_images, given.test_images)
    )
    tested = jnp.float32(test.pixels[:TESTED] / 255)
    learned = functools.partial(trained, network, train.pixels, train.labels)
    rows = {
        "as it is": lambda: network,
        "server trained": lambda: learned(device=False),
        "device and server trained": lambda: learned(device=True),
        "conditional entropy, weight 5": lambda: learned(device=True, entropy=5.0),
        "adversary, weight 50": lambda: learned(device=True, adversary=50.0),
    }
    found = json.loads(given.out.read_text())["rows"] if given.out.exists() else []
    for name, make in rows.items():
        if any(row["network"] == name for row in found):
            continue
        begin = time.monotonic()
        new, channel = make(), Channel("gaussian", NOISE)
        prior = dci_jax.fit_prior(new, key=key, progress=False)
        chain = dci_jax.solve_chain(new, SPLIT, prior, key=key, defense=channel, progress=False, **SOLVE)
        read = chain(sent(new, depth, channel, jax.random.key(1), tested))
        scores = {
            "accuracy": accuracy(new, test.pixels, test.labels),
            "psnr": float(psnr(read, tested).mean()),
            "ssim": float(ssim(read, tested).mean()),
            "label_agreement": float(
                jnp.mean(logits(new, run(new, read)).argmax(1) == logits(new, run(new, tested)).argmax(1))
            ),
        }
        found.append({"network": name, **{k: round(v, 3) for k, v in scores.items()}})
        print(found[-1], f"{time.monotonic() - begin:.0f} s", flush=True)
        given.out.write_text(json.dumps({"rows": found, "jax": jax.__version__}, indent=1) + "\n")


if __name__ == "__main__":
    main()
