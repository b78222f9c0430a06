"""A convolution is XLA's own, to rounding, forwards, in either gradient and along a direction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dci_jax.cpu_kernels import convolution
from dci_jax.cpu_kernels.convolution import convolve
from dci_jax.models.layers import conv

SHAPES = [  # image, kernel, stride, padding
    ((2, 12, 10, 3), (7, 7, 3, 8), 2, 3),
    ((2, 12, 10, 4), (5, 5, 4, 6), 2, 2),
    ((2, 11, 10, 3), (3, 3, 3, 8), 2, 1),
    ((2, 12, 12, 5), (3, 3, 5, 6), 2, 1),
    ((2, 11, 12, 5), (1, 1, 5, 6), 2, 0),
    ((2, 12, 12, 5), (3, 3, 5, 6), 1, 1),
    ((2, 11, 10, 5), (3, 3, 5, 6), 3, 1),
    ((2, 11, 10, 5), (2, 2, 5, 6), 3, 0),
    ((2, 9, 8, 16), (3, 3, 16, 3), 1, 1),
    ((2, 9, 8, 12), (5, 5, 12, 24), 1, 2),
    ((1, 5, 4, 40), (3, 3, 40, 30), 1, 1),
    ((2, 9, 11, 30), (3, 3, 30, 26), 1, 0),
]
NUMBERS = jax.lax.conv_dimension_numbers((1,) * 4, (1,) * 4, ("NHWC", "HWIO", "NHWC"))


def drawn(*shapes):
    return [jax.random.normal(jax.random.key(seed), shape) for seed, shape in enumerate(shapes)]


@pytest.mark.slow
@pytest.mark.parametrize(("image", "kernel", "stride", "pad"), SHAPES)
def test_value_gradients_and_directions_are_those_of_xlas_convolution(image, kernel, stride, pad):
    x, k, dx, dk = drawn(image, kernel, image, kernel)
    how = (stride, stride), ((pad, pad),) * 2

    def ours(x, k):
        return convolve(x, k, *how, dimension_numbers=NUMBERS)

    def xlas(x, k):
        return jax.lax.conv_general_dilated(x, k, *how, dimension_numbers=NUMBERS)

    def derivatives(conv):
        both, alone = (jax.jvp(conv, (x, k), to) for to in ((dx, dk), (dx, jnp.zeros_like(k))))
        change = jax.random.normal(jax.random.key(9), both[0].shape)
        return both, alone, jax.vjp(conv, x, k)[1](change)

    (*found, pulled), (*wanted, wanted_pulled) = (jax.jit(derivatives, static_argnums=0)(conv) for conv in (ours, xlas))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    for a, b in zip(pulled, wanted_pulled, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("image", "kernel", "stride", "pad"), SHAPES[-6:])
def test_a_gradient_can_be_differentiated_again(image, kernel, stride, pad):
    x, k, dx, dk = drawn(image, kernel, image, kernel)
    how = (stride, stride), ((pad, pad),) * 2

    def along(conv):
        def gradient(x, k):
            return jax.grad(lambda x, k: jnp.sum(jnp.sin(conv(x, k, *how, dimension_numbers=NUMBERS))), (0, 1))(x, k)

        return jax.jvp(gradient, (x, k), (dx, dk))[1]

    ours, xlas = (jax.jit(along, static_argnums=0)(conv) for conv in (convolve, jax.lax.conv_general_dilated))
    for found, wanted in zip(ours, xlas, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-2, rtol=1e-3)


WAYS = [  # function, stride, channels behind it of 3 in front of it
    (convolution.turned, 1, 4),
    (convolution.correlated, 1, 4),
    (convolution.correlated, 1, 2),
    (convolution.by_places, 1, 4),
    (convolution.by_places, 2, 4),
]


@pytest.mark.slow
@pytest.mark.parametrize(("way", "stride", "behind"), WAYS)
@pytest.mark.parametrize(
    ("size", "pads"), [((3, 3), ((1, 1), (1, 1))), ((2, 3), ((0, 1), (2, 0))), ((4, 2), ((3, 0), (0, 1)))]
)
def test_every_way_is_the_convolution_whatever_its_padding(way, stride, behind, size, pads):
    """Value, and both gradients, which is what a way is there for."""
    (batch, rows, columns, channels), strides = (2, 9, 8, 3), (stride, stride)
    x, k = drawn((batch, rows, columns, channels), (*size, channels, behind))
    y, pull = jax.vjp(lambda x, k: convolution.directly(strides, pads, x, k), x, k)
    np.testing.assert_allclose(way(strides, pads, x, k), y, atol=1e-5)
    change = jax.random.normal(jax.random.key(9), y.shape)
    for place, wanted in enumerate(pull(change)):
        if (way, place) in ((convolution.correlated, 0), (convolution.by_places, 1)):
            continue  # linear in the other only
        found = jax.vjp(lambda v, place=place: way(strides, pads, *((v, k), (x, v))[place]), (x, k)[place])[1](change)
        np.testing.assert_allclose(found[0], wanted, atol=1e-4)


def test_the_way_follows_from_the_shapes():
    def chosen(image, kernel, strides=(1, 1), pads=((1, 1),) * 2):
        x, k = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (image, kernel))
        return convolution._way_of_input(strides, pads, x, k), convolution._way_of_kernel(strides)

    c = convolution
    assert chosen((8, 56, 56, 64), (3, 3, 64, 64)) == (c.directly, c.correlated)
    assert chosen((8, 7, 7, 512), (3, 3, 512, 256)) == (c.turned, c.correlated)
    assert chosen((8, 32, 32, 16), (3, 3, 16, 32), (2, 2)) == (c.by_places, c.directly)
    assert chosen((8, 32, 32, 3), (3, 3, 3, 16), (2, 2))[0] == c.folded


@pytest.mark.parametrize("place", [0, 1])
def test_what_is_not_differentiated_is_not_computed(place):
    """A frozen network's weights cost nothing: one convolution forwards, and one more for the weights where they learn."""
    x, k = drawn((2, 12, 12, 5), (3, 3, 5, 6))
    gradient = jax.grad(
        lambda x, k: jnp.sum(convolve(x, k, (2, 2), ((1, 1),) * 2, dimension_numbers=NUMBERS) ** 2), place
    )
    assert str(jax.make_jaxpr(gradient)(x, k)).count("conv_general_dilated[") == 1 + place


def test_only_what_fits_is_folded():
    assert convolution._foldable((2, 2), ((3, 3),) * 2, (8, 224, 224, 3), (7, 7, 3, 64))
    assert not convolution._foldable((2, 2), ((3, 3),) * 2, (8, 225, 224, 3), (7, 7, 3, 64))
    assert not convolution._foldable((2, 2), ((1, 1),) * 2, (8, 56, 56, 64), (3, 3, 64, 128))
    assert not convolution._foldable((2, 2), ((2, 2),) * 2, (8, 224, 224, 3), (7, 7, 3, 64))


@pytest.mark.slow
@pytest.mark.parametrize(("width", "stride"), [(6, 2), (6, 1), (2, 1), (200, 1)])
def test_per_example_gradients_of_a_layer(width, stride):
    """`jax.vmap` of a gradient, which a linear function of its own would not allow."""
    module, x = conv(width, 3, stride), jax.random.normal(jax.random.key(0), (3, 1, 12, 12, 5))
    variables = module.init(jax.random.key(1), x[0])
    found = jax.vmap(jax.grad(lambda x: jnp.sum(module.apply(variables, x) ** 2)))(x)
    np.testing.assert_allclose(found[1], jax.grad(lambda x: jnp.sum(module.apply(variables, x) ** 2))(x[1]), atol=1e-4)


@pytest.mark.parametrize("how", [{"feature_group_count": 2}, {"rhs_dilation": (2, 2)}, {"lhs_dilation": (2, 2)}])
def test_what_is_not_of_our_form_is_left_to_xla(how):
    x, k = drawn((2, 12, 12, 4), (3, 3, 4 // how.get("feature_group_count", 1), 6))
    found = convolve(x, k, (2, 2), ((1, 1),) * 2, dimension_numbers=NUMBERS, **how)
    wanted = jax.lax.conv_general_dilated(x, k, (2, 2), ((1, 1),) * 2, dimension_numbers=NUMBERS, **how)
    np.testing.assert_array_equal(found, wanted)
