"""Arrays that users give are checked outside of `jit`, and constants of a traced function are, too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dci_jax import metrics
from dci_jax.arrays import as_features, check_floats, check_range, dtype_of
from dci_jax.errors import InputError

IMAGES = np.random.default_rng(0).uniform(0, 1, (2, 8, 8, 3)).astype(np.float32)


class Foreign:
    """An array of another library, whose dtype numpy does not know."""

    shape, ndim, dtype = (2, 8, 8, 3), 4, "torch.float32"


@pytest.mark.parametrize("x", [None, 3, "x", Foreign(), object()])
def test_what_is_no_array_has_no_type_and_is_refused(x):
    assert dtype_of(x) is None
    for check in (as_features, lambda x: check_floats(x, "x")):
        with pytest.raises(InputError, match=f"is a {type(x).__name__}; give an array of floats"):
            check(x)


def test_a_traced_function_may_hold_images_and_features_that_are_not_traced():
    assert jax.jit(lambda x: metrics.mse(x, IMAGES))(IMAGES).shape == (2,)
    assert jax.jit(jax.grad(lambda x: metrics.psnr(x, IMAGES + 0.01).sum()))(IMAGES).shape == IMAGES.shape
    assert jax.jit(lambda scale: scale * as_features(IMAGES))(2.0).shape == IMAGES.shape
    pixels = np.float32(255 * (IMAGES > 0.5))
    with pytest.raises(InputError, match="truth is from 0 to 255"):
        jax.jit(lambda x: metrics.mse(x, pixels))(IMAGES)


def test_numbers_that_are_not_finite_or_of_another_range_are_refused():
    for bad in (np.nan, np.inf):
        with pytest.raises(InputError, match="not all finite"):
            as_features(np.where(IMAGES > 0.5, np.float32(bad), IMAGES))
        with pytest.raises(InputError, match="not finite everywhere"):
            check_range(np.where(IMAGES > 0.5, np.float32(bad), IMAGES), "x")
    with pytest.raises(InputError, match=r"x is from 0 to 2\d\d"):
        check_range(255 * IMAGES, "x")
    check_range(1.1 * IMAGES, "x")
    assert as_features(IMAGES.astype(np.float16)).dtype == jnp.float32


def test_quantized_or_empty_features_are_refused():
    with pytest.raises(InputError, match=r"int8; give an array of floats .* quantized features as the numbers"):
        as_features(np.ones((1, 4, 4, 3), np.int8))
    with pytest.raises(InputError, match="no example"):
        as_features(np.zeros((0, 4, 4, 3), np.float32))
