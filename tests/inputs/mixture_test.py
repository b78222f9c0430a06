import jax
import numpy as np
import pytest

from dci_jax.errors import InputError
from dci_jax.inputs.mixture import Prior, Shards, batches, mixture

POOL = np.full((3, 8, 8, 3), 51, np.uint8)  # 0.2 everywhere
KEY = jax.random.key(0)


def inputs(weights, pool=POOL, shape=(8, 8, 3)):
    return Prior(pool, mixture(weights, len(pool)), shape)


def test_shares_become_counts_and_always_fill_the_batch():
    mixed = inputs({"synthetic": 1.0, "white_noise": 2.0, "pink_noise": 0.0})
    images = batches(mixed, KEY, 9)(0)
    assert images.shape == (9, 8, 8, 3)
    of_bank = np.isclose(np.asarray(images), 0.2).all((1, 2, 3))
    assert of_bank.sum() == 3
    assert batches(mixed, KEY, 10)(0).shape == (10, 8, 8, 3)


def test_images_are_shuffled_and_flipped():
    ramp = np.broadcast_to(np.arange(8, dtype=np.uint8)[None, None, :, None], (1, 8, 8, 3))
    images = np.asarray(batches(inputs({"synthetic": 0.5, "white_noise": 0.5}, ramp), KEY, 64)(0))
    first, last = images[:, 0, 0, 0], images[:, 0, 7, 0]
    of_bank = np.isclose(np.maximum(first, last), 7 / 255) & np.isclose(np.minimum(first, last), 0)
    assert of_bank.sum() == 32
    assert 0 < of_bank[:32].sum() < 32  # shuffled
    assert 0 < (first[of_bank] == 0).sum() < 32  # flipped


def test_a_batch_depends_on_its_number_and_key_alone():
    pool = np.random.default_rng(0).integers(0, 255, (20, 12, 12, 3), np.uint8)
    mixed = inputs({"synthetic": 0.5, "dead_leaves": 0.5}, pool)
    running, resumed = batches(mixed, KEY, 6), batches(mixed, KEY, 6)
    seen = [np.asarray(running(number)) for number in range(5)]
    np.testing.assert_array_equal(resumed(3), seen[3])
    np.testing.assert_array_equal(resumed(4), seen[4])
    np.testing.assert_array_equal(resumed(1), seen[1])
    assert not np.array_equal(seen[3], seen[4])
    assert not np.array_equal(batches(mixed, jax.random.key(1), 6)(3), seen[3])


def test_every_image_of_the_bank_is_seen_and_cropped_at_random():
    rows, columns = np.meshgrid(np.arange(16), np.arange(16), indexing="ij")
    places = np.stack([rows, columns, rows], -1).astype(np.uint8)
    pool = np.stack([places + 20 * i for i in range(4)])
    images = np.asarray(batches(inputs({"synthetic": 1.0}, pool), KEY, 32)(0)) * 255
    assert images.shape == (32, 8, 8, 3)
    corners = images[:, 0].min(1).round().astype(int)
    assert set(corners[:, 0] // 20) == {0, 1, 2, 3}
    assert len(set(corners[:, 0] % 20)) > 3
    np.testing.assert_allclose(np.diff(images[:, :, 0, 0], axis=1), 1, atol=1e-3)


def test_shards_on_disk_are_one_sequence(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (6, 8, 8, 3), np.uint8)
    files = (tmp_path / "batch_00000.npy", tmp_path / "batch_00001.npy")
    np.save(files[0], pixels[:3])
    np.save(files[1], pixels[3:])
    shards = Shards(files, (2, 3, 8, 8, 3))
    assert len(shards) == 6
    for i in range(6):
        np.testing.assert_array_equal(shards[i], pixels[i])


@pytest.mark.parametrize(
    ("weights", "named"),
    [
        ({"photos": 1.0}, "'photos'.*dead_leaves"),
        ({"synthetic": -1.0}, "synthetic is -1"),
        ({"synthetic": 0.0}, "All weights"),
    ],
)
def test_bad_shares_are_refused(weights, named):
    with pytest.raises(InputError, match=named):
        mixture(weights, 3)


def test_an_empty_pool_is_refused_only_if_it_is_asked():
    with pytest.raises(InputError, match=r"inputs\.synthetic is"):
        mixture({"synthetic": 1.0}, 0)
    assert batches(inputs({"white_noise": 1.0}, POOL[:0]), KEY, 2)(0).shape == (2, 8, 8, 3)


def test_latents_come_from_their_prior_and_are_not_flipped():
    latents = Prior((), (("uniform", 1.0),), (5,))
    found = np.asarray(batches(latents, KEY, 200)(3))
    assert found.shape == (200, 5)
    assert -1 <= found.min() < -0.9
    assert 0.9 < found.max() <= 1
    np.testing.assert_array_equal(found, batches(latents, KEY, 200)(3))
    assert (found != np.asarray(batches(latents, KEY, 200)(4))).all()
