import chex
import jax
import numpy as np
import pytest

from dci_jax.models import convolution


def random(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("batch", "height", "width", "size"), [(2, 8, 8, 3), (33, 7, 5, 3), (3, 6, 6, 5), (1, 1, 1, 3)]
)
def test_strips_give_the_gradient_of_the_plain_convolution(batch, height, width, size):
    x, kernel = random(batch, height, width, 4), random(size, size, 4, 6)
    y = random(batch, height, width, 6)[..., ::-1]
    pad = size // 2

    def plain(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), ((pad, pad),) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    expected, expected_vjp = jax.vjp(plain, x, kernel)
    found, found_vjp = jax.vjp(convolution._conv, x, kernel)
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-4)
    chex.assert_trees_all_close(found_vjp(y), expected_vjp(y), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("strides", "padding", "more"),
    [((2, 2), ((1, 1), (1, 1)), {}), ((1, 1), ((0, 0), (0, 0)), {}), ((1, 1), ((1, 1), (1, 1)), {"rhs_dilation": (2, 2)})],
)  # fmt: skip
def test_other_convolutions_are_passed_on(strides, padding, more):
    x, kernel = random(2, 8, 8, 4), random(3, 3, 4, 6)
    more = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), **more}
    expected = jax.lax.conv_general_dilated(x, kernel, strides, padding, **more)
    found = convolution.conv_general_dilated(x, kernel, strides, padding, **more)
    chex.assert_trees_all_equal(found, expected)
