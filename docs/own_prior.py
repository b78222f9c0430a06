"""How to give an attack a prior of your own, such as a GAN's or a diffusion model's. This page runs as it is.

    python -m dci_jax.main --config=configs/quickstart.py --workdir=runs/prior \\
        --config.rmle.prior=docs.own_prior:colour_is_smooth --config.rmle.prior_weight=0.3

`prior` is module:function, importable from the folder where you start; `config.refine` takes one as well.
The function is pure JAX, `(network, images) -> penalty`: images [B, H, W, C] in [0, 1], and for each a
number [B], smaller for likelier images. Its gradient pulls at every update, so that whatever
scores an image will do:

* a generator G: the distance of the image to G(E(image)), with E an encoder of yours;
* a diffusion model: the squared error of its noise estimate at one or a few noise levels (score
  distillation);
* a classifier or a likelihood model: minus its log probability.

Load weights once, at the module's top; `jit` makes them constants of the program. The weight is relative
to the relative feature distance, |F(x) - f|^2 / |f - mean f|^2, which is 1 for a useless image.
"""

import jax.numpy as jnp


def colour_is_smooth(network, images):
    """Natural images vary less in colour than in brightness: mean |gradient of the chroma|, [B]."""
    del network
    chroma = images - jnp.mean(images, -1, keepdims=True)
    down, right = jnp.diff(chroma, axis=1), jnp.diff(chroma, axis=2)
    return jnp.mean(jnp.abs(down), (1, 2, 3)) + jnp.mean(jnp.abs(right), (1, 2, 3))
