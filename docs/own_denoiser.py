"""A learned prior on images: any denoiser, by regularization by denoising (RED; Romano, Elad & Milanfar, SIAM 2017).

    python -m dci_jax.main --config=configs/quickstart.py --workdir=runs/denoiser \\
        --config.refine.prior=docs.own_denoiser:looks_clean --config.refine.prior_weight=10

The penalty is mean x (x - D(x)), whose gradient is what the denoiser D would remove. This one is small and was trained on
procedural images alone (`python -m training.denoiser`), so that the attack stays data-free; put a stronger one in its place, such
as a diffusion model's at a small noise level. docs/rivals.md has what it adds.
"""

from pathlib import Path

import jax
import jax.numpy as jnp

from training.denoiser import read

MODULE, PARAMS = read(Path(__file__).with_name("denoiser.safetensors"))


def looks_clean(network, images):
    """For images [B, H, W, 3] in [0, 1]: mean of x (x - D(x)), [B]; 0 where there is nothing to remove."""
    del network
    noise = jax.lax.stop_gradient(MODULE.apply(PARAMS, images))
    return jnp.mean(images * noise, (1, 2, 3))
