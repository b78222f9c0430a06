"""What a split point reveals without an attack: a leakage score, and the pixels that a feature depends on.

The score is how well a linear estimator would reconstruct small changes.

Around an image x the features change by J d, with J the Jacobian. If the changes d were Gaussian, with the covariance S of
natural images (power 1 / |frequency|^2, most of it in brightness), and the features were observed with white noise of variance v,
the best reconstruction of d would have the mean squared error

    mse = tr (S^-1 + J^T J / v)^-1 / n = E_z [ z^T R (I + R J^T J R / v)^-1 R z ] / n,    R = S^(1/2),

with random signs z (Hutchinson), the inverse by conjugate gradients, and n values per image. A network adds no noise; what limits
a linear estimator is its nonlinearity. So the noise is the linearization error F(x + d) - F(x) - J d for changes d of CHANGE
standard deviations, and v its mean square. The score is -10 log10 mse, in dB. Fisher information alone (dFIL: Guo et al., ICML 2022)
accounts neither for image statistics nor for where J ceases to hold. The score ranks split points; it is not a bound and certifies nothing.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dci_jax.dci import inverter
from dci_jax.inputs.procedural import dead_leaves
from dci_jax.network import Network, run, single_block
from dci_jax.typing import Array

CHANGE = 0.3  # of the images' standard deviation
STEPS = 30  # of conjugate gradients
DEVIATION = 0.25  # of images in [0, 1]
_LEAST = 1e-8  # of the features' variance: rounding, where a network is linear
_SHARES = (0.9, 0.07, 0.03)  # of their variance, in brightness and two colours
_COLORS = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])


def score(network: Network, index: int, key: Array, num_images: int) -> float:
    """The score in dB of the features at split `index`, the mean error over procedural images."""
    key_images, key_signs = jax.random.split(key)
    images = dead_leaves(key_images, num_images, network.input_shape)
    mse = sum(
        float(_error(network, index, images[i : i + 1], jax.random.fold_in(key_signs, i))) for i in range(num_images)
    )
    return -10 * float(np.log10(max(mse / num_images, 1e-10)))


@functools.partial(jax.jit, static_argnums=1)
def _error(network: Network, index: int, x: Float[Array, "B H W C"], key: Array) -> Array:
    """`mse` at the image x [1, H, W, C]."""
    features, forward = jax.linearize(lambda x: run(network, x, 0, index), x)
    (backward,) = (jax.linear_transpose(forward, x),)
    key, key_change = jax.random.split(key)
    change = CHANGE * _root(jax.random.normal(key_change, x.shape))
    rest = run(network, x + change, 0, index) - features - forward(change)
    variance = jnp.maximum(jnp.mean(rest**2), _LEAST * jnp.var(features))
    z = jax.random.rademacher(key, x.shape, jnp.float32)

    def matrix(w):
        return w + _root(backward(forward(_root(w)))[0]) / variance

    found, _ = jax.scipy.sparse.linalg.cg(matrix, _root(z), maxiter=STEPS, tol=1e-3)
    return jnp.sum(_root(z) * found) / x.size


def receptive_fields(network: Network) -> list[tuple[int, int]]:
    """(height, width) in pixels that a feature in the middle of each split point depends on: where its gradient is not 0.

    Measured on two images of white noise, so it is clipped at the image's border, and may miss what ReLUs block there.
    """
    x = jax.random.uniform(jax.random.key(0), (2, *network.input_shape))
    pulls, found = [], []
    for index in range(len(network.blocks)):
        x, pull = inverter.forward(single_block(network, index), x)
        pulls.append(pull)
        middle = tuple(side // 2 for side in x.shape[1:-1])
        weights = jax.random.normal(jax.random.key(index), x.shape[:1] + x.shape[-1:])
        gradient = jnp.zeros_like(x).at[:, *middle].set(weights.astype(x.dtype))
        for pull in pulls[::-1]:
            gradient = inverter.back(pull, gradient)
        reached = np.asarray(gradient != 0).any((0, 3))
        rows = [np.flatnonzero(reached.any(axis)) for axis in (1, 0)]
        found.append(tuple(int(np.ptp(each)) + 1 if each.size else 0 for each in rows))
    return found


def _root(x):
    """R x of images [B, H, W, C]: symmetric."""
    height, width, channels = x.shape[1:]
    amplitude, colors = _amplitudes(height, width), _colors(channels)
    spectrum = jnp.fft.rfft2(x, axes=(1, 2)) * amplitude[..., None]
    return jnp.fft.irfft2(spectrum, (height, width), axes=(1, 2)) @ colors


@functools.cache
def _amplitudes(height, width):
    """Standard deviations of the frequencies [H, W // 2 + 1], so that pixels have DEVIATION."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    frequency[0, 0] = 1 / max(height, width)
    power = 1 / frequency**2
    return np.float32(DEVIATION * np.sqrt(power / power.mean()))[:, : width // 2 + 1]


@functools.cache
def _colors(channels):
    """The root of the colours' covariance [C, C], of mean variance 1."""
    if channels != 3:
        return np.eye(channels, dtype=np.float32)
    return np.float32(_COLORS.T * np.sqrt(3 * np.array(_SHARES)) @ _COLORS)
