"""A denoiser trained on procedural images is a prior of one's own: it finds noise, and its gradient removes it."""

import jax
import jax.numpy as jnp
import numpy as np

from dci_jax.inputs.procedural import dead_leaves
from docs.own_denoiser import looks_clean
from training import denoiser


def test_training_leaves_a_file_that_can_be_read_back(tmp_path):
    out = tmp_path / "denoiser.safetensors"
    small = ("--steps=2", "--batch=2", "--side=8", "--width=8", "--depth=3")
    denoiser.main([f"--out={out}", *small])
    module, params = denoiser.read(out)
    assert (module.width, module.depth) == (8, 3)
    assert module.apply(params, jnp.zeros((2, 8, 8, 3))).shape == (2, 8, 8, 3)


def test_the_prior_prefers_clean_images_and_its_gradient_removes_noise():
    clean = dead_leaves(jax.random.key(0), 8, (32, 32, 3))
    noisy = clean + 0.1 * jax.random.normal(jax.random.key(1), clean.shape)
    assert (looks_clean(None, noisy) > looks_clean(None, clean) + 0.002).all()
    removed = clean[0].size * jax.grad(lambda x: looks_clean(None, x).sum())(noisy)
    before, after = (np.asarray(jnp.mean((x - clean) ** 2, (1, 2, 3))) for x in (noisy, noisy - removed))
    assert (after < 0.5 * before).all()
