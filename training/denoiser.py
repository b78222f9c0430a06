"""Train a denoiser on procedural images alone, the prior of docs/own_denoiser.py: `python -m training.denoiser --help`.

    python -m training.denoiser --out=docs/denoiser.safetensors

A residual network of 3x3 convolutions (DnCNN; Zhang et al., IEEE TIP 2017) that estimates Gaussian noise of any deviation up to
--noise in images [B, H, W, 3]; no real image is used.
"""

import argparse
import logging
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import load_file, save_file

from dci_jax.inputs.mixture import Prior, batches
from dci_jax.runtime.training_loop import minimize
from training.arguments import check_file, finish, number, whole


class Denoiser(nn.Module):
    """Images [B, H, W, 3] in [0, 1] -> their noise, the same shape.

    Attributes:
      width: channels.
      depth: convolutions.
    """

    width: int
    depth: int

    @nn.compact
    def __call__(self, images):
        x = images - 0.5
        for _ in range(self.depth - 1):
            x = nn.relu(nn.Conv(self.width, (3, 3), padding="SAME")(x))
        return nn.Conv(3, (3, 3), padding="SAME")(x)


def read(path) -> tuple[Denoiser, dict]:
    """(module, its variables) of a file that `main` wrote."""
    flat = {name: jnp.float32(array) for name, array in load_file(path).items()}
    params = unflatten_dict(flat, sep="/")
    return Denoiser(params["params"]["Conv_0"]["bias"].size, len(params["params"])), params


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", required=True, help="safetensors file to write, in 16 bits")
    add("--steps", type=whole(1), default=2000, help="Adam updates")
    add("--batch", type=whole(1), default=32, help="images per update")
    add("--side", type=whole(8, 1024), default=32, help="of an image in pixels")
    add("--width", type=whole(1, 1024), default=32, help="channels")
    add("--depth", type=whole(2, 100), default=7, help="convolutions")
    add("--noise", type=number(0, 1, above=True), default=0.2, help="largest deviation, in [0, 1]")
    add(
        "--learning_rate",
        type=number(0, 10, above=True),
        default=2e-3,
        help="of Adam; decays to 0 on a cosine schedule",
    )
    add("--seed", type=whole(0, 2**31 - 1), default=0, help="of weights, images and noise")
    given = parser.parse_args(arguments)
    logging.getLogger("dci_jax").setLevel(logging.INFO)
    check_file(given.out, "--out")
    module, key = Denoiser(given.width, given.depth), jax.random.key(given.seed)
    prior = Prior((), (("dead_leaves", 0.8), ("pink_noise", 0.2)), (given.side, given.side, 3))
    draw = batches(prior, jax.random.fold_in(key, 1), given.batch)

    def batch(step):
        key_size, key_noise = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, 2), step))
        images = draw(step)
        deviation = given.noise * jax.random.uniform(key_size, (len(images), 1, 1, 1))
        return {"images": images, "noise": deviation * jax.random.normal(key_noise, images.shape)}

    def loss(params, frozen, batch):
        del frozen
        found = module.apply(params, batch["images"] + batch["noise"])
        mse = jnp.mean((found - batch["noise"]) ** 2)
        return mse, {"mse": mse, "noise": jnp.mean(batch["noise"] ** 2)}

    optimizer = optax.adam(optax.cosine_decay_schedule(given.learning_rate, given.steps))
    start = module.init(key, jnp.zeros((1, given.side, given.side, 3)))
    params, terms = minimize(loss, start, {}, batch, steps=given.steps, optimizer=optimizer, label="denoiser")
    flat = {name: np.float16(leaf) for name, leaf in flatten_dict(params, sep="/").items()}
    save_file(
        flat, given.out, {"steps": str(given.steps), "mse": f"{float(terms['mse']):.3g}", "licence": "Apache-2.0"}
    )
    print(f"{given.out}: {sum(leaf.size for leaf in flat.values())} weights")


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(message)s")
    sys.exit(finish(main, "training.denoiser"))
