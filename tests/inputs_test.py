import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dci_jax.errors import InputError
from dci_jax.inputs import draw, mixture

BANK = jnp.full((3, 8, 8, 3), 51, jnp.uint8)  # 0.2 everywhere


def test_shares_become_counts_and_always_fill_the_batch():
    inputs = mixture(BANK, {"bank": 1.0, "white_noise": 2.0, "pink_noise": 0.0})
    images = draw(inputs, jax.random.key(0), 9)
    assert images.shape == (9, 8, 8, 3)
    of_bank = np.isclose(np.asarray(images), 0.2).all((1, 2, 3))
    assert of_bank.sum() == 3
    assert draw(inputs, jax.random.key(0), 10).shape == (10, 8, 8, 3)


def test_batches_are_seeded_shuffled_and_flipped():
    ramp = jnp.broadcast_to(jnp.arange(8, dtype=jnp.uint8)[None, None, :, None], (1, 8, 8, 3))
    inputs = mixture(ramp, {"bank": 0.5, "white_noise": 0.5})
    images = np.asarray(draw(inputs, jax.random.key(0), 64))
    np.testing.assert_array_equal(images, draw(inputs, jax.random.key(0), 64))
    first, last = images[:, 0, 0, 0], images[:, 0, 7, 0]
    of_bank = np.isclose(np.maximum(first, last), 7 / 255) & np.isclose(np.minimum(first, last), 0)
    assert of_bank.sum() == 32
    assert 0 < of_bank[:32].sum() < 32  # shuffled
    assert 0 < (first[of_bank] == 0).sum() < 32  # flipped


@pytest.mark.parametrize(
    ("shares", "named"),
    [({"photos": 1.0}, "'photos'.*dead_leaves"), ({"bank": -1.0}, "bank is -1"), ({"bank": 0.0}, "All shares")],
)  # fmt: skip
def test_bad_shares_are_refused(shares, named):
    with pytest.raises(InputError, match=named):
        mixture(BANK, shares)


def test_an_empty_bank_is_refused_only_if_it_is_asked():
    with pytest.raises(InputError, match="empty bank"):
        mixture(BANK[:0], {"bank": 1.0})
    assert draw(mixture(BANK[:0], {"white_noise": 1.0}), jax.random.key(0), 2).shape == (2, 8, 8, 3)
