import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from dci_jax import network as networks
from dci_jax.models.layers import BatchNorm, conv, flax_piece, tapped
from dci_jax.pieces import sequential


def test_batch_norm_taps_the_biased_variance_even_where_it_is_small_beside_the_mean():
    module = BatchNorm()
    x = 1000 + 0.05 * np.random.default_rng(0).normal(size=(64, 4, 4, 2)).astype(np.float32)
    variables = {k: v for k, v in module.init(jax.random.key(0), x).items() if k != "batch_moments"}
    _, statistics = tapped(module)(variables, x)
    np.testing.assert_allclose(statistics["var"], x.astype(np.float64).var((0, 1, 2)), rtol=0.05)
    np.testing.assert_allclose(statistics["mean"], x.mean((0, 1, 2)), rtol=1e-6)


def test_frozen_batch_norm_uses_the_running_statistics_and_training_the_batch():
    x = jnp.array([[[[1.0]]], [[[3.0]]]])
    variables = {
        "params": {"scale": jnp.array([2.0]), "bias": jnp.array([1.0])},
        "batch_stats": {"mean": jnp.array([1.0]), "var": jnp.array([4.0])},
    }
    frozen, _ = tapped(BatchNorm())(variables, x)
    np.testing.assert_allclose(frozen.ravel(), [1, 3], atol=1e-4)
    trained, _ = tapped(BatchNorm(train=True))(variables, x)
    np.testing.assert_allclose(trained.ravel(), [-1, 3], atol=1e-4)


def test_a_strided_convolution_is_padded_on_both_sides_as_torch_does():
    x = jnp.zeros((1, 4, 4, 1)).at[0, 0, 0, 0].set(1.0)
    module = conv(1, 3, 2)
    kernel = jnp.arange(9.0).reshape(3, 3, 1, 1)
    y = module.apply({"params": {"kernel": kernel}}, x)
    assert y.shape == (1, 2, 2, 1)
    assert y[0, 0, 0, 0] == 4  # the centre of the kernel: "SAME" would give kernel[0, 0]


class Pair(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=True, name="outer")(x)
        return nn.Sequential([nn.Conv(4, (3, 3)), nn.BatchNorm(use_running_average=True)])(x)


def test_flaxs_own_batch_norm_is_tapped_wherever_it_lies():
    x = jnp.array(np.random.default_rng(0).normal(2, 3, (8, 4, 4, 3)), jnp.float32)
    variables = Pair().init(jax.random.key(0), x)
    name, apply, params = flax_piece("pair", Pair(), variables)
    network = sequential("mine", (4, 4, 3), [(name, apply, params)])
    _, (statistics,) = networks.trace(network, x)
    assert jax.tree.structure(statistics) == jax.tree.structure(variables["batch_stats"])
    np.testing.assert_allclose(statistics["outer"]["mean"], x.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(statistics["outer"]["var"], x.var((0, 1, 2)), rtol=1e-4)
    assert jax.tree.leaves(jax.jit(apply)(params, x)[1])
