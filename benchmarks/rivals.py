"""What weights, and what real images are worth to an attacker of a CIFAR ResNet-20: solved chains, on the same 200 images.

    python -m benchmarks.rivals --out=benchmarks/results/rivals.json resnet20-12fca82f.th lossless_3000.npz

Rows, after layer2.2: `dci`, data-free; an attacker with k real images of the network's training set and their
features, alone and beside the procedural images; and black boxes, who can only query the device with images of their own: one
inverter for all blocks, without gradients, with and without answers to queries at the attack. k pairs are divided 3 to 1 for solving
and validation, and flipped. Rows that the file has are not made again.
"""

import argparse
import contextlib
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
from dci_jax.dci import inverter, solve_chain
from dci_jax.inputs.mixture import batches
from dci_jax.metrics import psnr
from dci_jax.network import Block, Network, features_at, first_blocks, logits, run, split_index, trace
from dci_jax.runtime.training_loop import minimize
from training.target import trainable, with_trainable

SPLITS, TESTED, PAIRS, COUNT = ("layer2.2",), 200, (16, 256, 2800), 1152
QUERIES, QUERIED = 128_000, 128  # images that a network is estimated from, and of them in a step
SETTINGS = dict(num_corrections=4, kernel_size=3, max_unknowns=(6000, 3000), samples_per_unknown=100, progress=False)


@contextlib.contextmanager
def learned_from(pixels: np.ndarray, beside: bool):
    """Chains solved on these images, flipped, and on the prior's own where `beside`."""
    original, cut = solve_chain._inputs, len(pixels) * 3 // 4

    def inputs(prior, key, settings):
        batch, parts = settings["batch"], []
        procedural = original(prior, key, settings) if beside else [[], []]
        for some, more in zip((pixels[:cut], pixels[cut:]), procedural, strict=True):
            some = np.random.default_rng(0).permutation(np.concatenate([some, some[:, :, ::-1]]))
            own = [jnp.float32(some[i : i + batch] / 255) for i in range(0, len(some) - batch + 1, batch)]
            # Turns, so that inverters that are solved on a part of the batches see both kinds.
            turns = sorted(
                [((i + 0.5) / len(x), b) for x in (own, more) for i, b in enumerate(x)], key=lambda turn: turn[0]
            )
            parts.append([b for _, b in turns])
        return parts

    solve_chain._inputs = inputs
    yield
    solve_chain._inputs = original


@contextlib.contextmanager
def without(gradients: bool, answers: bool):
    """Corrections without gradients, and without the network's answers to queries."""
    whole = inverter.regressors

    def blind(g, network, seen, f, x):
        u = whole(g, network, seen, f, x)
        if isinstance(u, jax.ShapeDtypeStruct):  # while programs are compiled ahead
            return u
        residual, gradient, stop = g.target, g.target + g.sent - 1, g.channels - g.sent
        u = u.at[..., gradient:stop].set(0) if gradients else u
        return u.at[..., residual:gradient].set(0) if answers else u

    inverter.regressors = blind
    jax.clear_caches()
    yield
    inverter.regressors = whole
    jax.clear_caches()


def one_block(network: Network, split: str) -> Network:
    """The device as one block, whose inside a black box does not know."""
    depth = split_index(network, split)
    inside = network.replace(blocks=network.blocks[:depth], head=None)
    block = Block({"inside": inside}, split, lambda params, x: (trace(params["inside"], x)[0][-1], {}))
    return Network((block,), None, network.name, network.input_shape)


@functools.cache
def distance(depth):
    """Of an estimated network's features after so many blocks from the device's, in units of their variance."""

    def loss(variables, student, batch):
        found = run(with_trainable(student, variables), batch["images"], 0, depth)
        error = jnp.mean((found - batch["features"]) ** 2) / jnp.var(batch["features"])
        return error, {"error": error}

    return loss


def estimated(device: Network, split: str, prior: dci_jax.Prior, key: jax.Array) -> Network:
    """A network of the same architecture, trained from scratch to answer as the device does up to this split point."""
    depth, draw = split_index(device, split), batches(prior, key, QUERIED)
    student = models.MODELS["cifar_resnet20"].build(jax.random.key(1), train=True)

    def query(number):
        images = draw(number)
        return {"images": images, "features": first_blocks(device, depth, images)}

    learned, terms = minimize(
        distance(depth),
        trainable(student),
        student,
        query,
        steps=QUERIES // QUERIED,
        optimizer=optax.adam(optax.cosine_decay_schedule(3e-3, QUERIES // QUERIED)),
    )
    student = with_trainable(student, learned)
    statistics = [_statistics(student, draw(number)) for number in range(40)]
    mean = jax.tree.map(lambda *leaves: jnp.mean(jnp.stack(leaves), 0), *statistics)
    print(f"estimated: {float(terms['error']):.4f} of the features' variance", flush=True)
    made = [
        block.replace(params={**new.params, "batch_stats": part})
        for block, new, part in zip(device.blocks, student.blocks, mean, strict=True)
    ]
    return device.replace(blocks=tuple(made))


@jax.jit
def _statistics(network, images):
    return trace(network, images)[1]


@contextlib.contextmanager
def answered_by(device: Network):
    """Chains solved on this device's features instead of those of the network that they invert."""
    original = solve_chain._sent

    def received(network, depth, channel, key, made):
        return original(device, depth, channel, key, made)

    solve_chain._sent = received
    yield
    solve_chain._sent = original


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("images", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    network, key = dci_jax.load_network("cifar_resnet20", given.weights), jax.random.key(0)
    pixels = np.load(given.images)["images"]
    tested = jnp.float32(pixels[:TESTED] / 255)
    plain = dci_jax.fit_prior(network, key=key, num_steps=0, progress=False)
    fitted = functools.cache(lambda: dci_jax.fit_prior(network, key=key, progress=False))

    def solved(split, target, prior, count, batch=128):
        some = dict(num_images=count, num_validation=min(256, count), batch_size=batch)
        return dci_jax.solve_chain(target, split, prior, key=key, **some, **SETTINGS)

    def pairs(split, count, beside):
        with learned_from(pixels[TESTED : TESTED + count], beside):
            few = 8 if count < 64 else 32 if count < 256 or beside else 64
            return solved(split, network, fitted() if beside else plain, COUNT if beside else 2 * count, few)

    def black_box(split, answers):
        with without(gradients=True, answers=not answers):
            return solved(split, one_block(network, split), plain, COUNT)

    def estimating(split):
        student = estimated(network, split, plain, key)
        with answered_by(network):
            return solved(split, student, plain, COUNT)

    rows = {"data-free, the weights known": lambda split: solved(split, network, fitted(), COUNT)}
    rows |= {f"{k} real images": lambda split, k=k: pairs(split, k, False) for k in PAIRS}
    rows["data-free and 256 real images"] = lambda split: pairs(split, 256, True)
    rows["black box: queries before and at the attack"] = lambda split: black_box(split, True)
    rows["black box: queries before the attack only"] = lambda split: black_box(split, False)
    rows["black box that estimates the network"] = estimating
    found = json.loads(given.out.read_text())["rows"] if given.out.exists() else []
    for name, row in rows.items():
        for split in SPLITS:
            if any((r["attacker"], r["split"]) == (name, split) for r in found):
                continue
            begin = time.monotonic()
            chain, features = row(split), features_at(network, split, tested)
            read = chain(features)
            answer = [jnp.argmax(logits(network, run(network, x)), -1) for x in (read, tested)]
            scores = {
                "psnr": float(psnr(read, tested).mean()),
                "label_agreement": float(jnp.mean(answer[0] == answer[1])),
            }
            found.append({"attacker": name, "split": split, **{k: round(v, 3) for k, v in scores.items()}})
            print(found[-1], f"{time.monotonic() - begin:.0f} s", flush=True)
            given.out.write_text(json.dumps({"rows": found, "jax": jax.__version__}, indent=1))


if __name__ == "__main__":
    main()
