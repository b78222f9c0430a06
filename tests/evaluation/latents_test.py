import jax
import numpy as np
import pytest

from dci_jax import network
from dci_jax.defenses.channel import NONE, Channel
from dci_jax.evaluation.latent_scores import depths, unlikeliness
from dci_jax.evaluation.latents import guess, read, read_given


@pytest.fixture
def latents():
    return np.asarray(jax.random.normal(jax.random.key(0), (3, 128)))


def evaluate(generator, latents, reconstruct, file, split="image", corruption=NONE):
    key = jax.random.key(1)
    return read(generator, latents, 2, split, corruption, reconstruct, key=key, file=file)


def test_the_true_latent_has_no_error(generator, latents, tmp_path):
    rest = iter((latents[:2], latents[2:]))
    found = evaluate(generator, latents, lambda _: next(rest), tmp_path / "x.npz")
    np.testing.assert_allclose(found["latent_cosine"], 1, atol=1e-5)
    np.testing.assert_allclose(found["latent_error"], 0, atol=1e-6)
    np.testing.assert_allclose(found["psnr"], 100)
    np.testing.assert_array_equal(found["latent"], latents)
    np.testing.assert_array_equal(found["reconstruction"], found["sent"])
    assert found["sent"].shape == (3, 32, 32, 3)


def test_errors_are_relative_and_images_are_made_anew(generator, latents, tmp_path):
    rest = iter((latents[:2] / 2, latents[2:] / 2))
    found = evaluate(generator, latents, lambda _: next(rest), tmp_path / "x.npz")
    np.testing.assert_allclose(found["latent_cosine"], 1, atol=1e-5)
    np.testing.assert_allclose(found["latent_error"], 0.5, atol=1e-5)
    image, again = (np.asarray(network.run(generator, z)) for z in (latents, latents / 2))
    wanted = -10 * np.log10(np.mean((image - again) ** 2, (1, 2, 3)))
    np.testing.assert_allclose(found["psnr"], wanted, atol=0.01)


@pytest.mark.slow
def test_the_attack_is_given_what_is_damaged_and_measured_against_what_is_not(generator, latents, tmp_path):
    given = []

    def reconstruct(sent):
        given.append(np.asarray(sent))
        return np.zeros((len(sent), 128), np.float32)

    found = evaluate(generator, latents, reconstruct, tmp_path / "x.npz", corruption=Channel("gaussian", 0.1))
    image = np.asarray(network.run(generator, latents))
    difference = np.concatenate(given) - image
    assert 0.08 < difference.std() < 0.11
    wanted = -10 * np.log10(np.mean(difference**2, (1, 2, 3)))
    np.testing.assert_allclose(found["psnr_sent"], wanted, atol=0.01)
    middle = evaluate(generator, latents, reconstruct, tmp_path / "y.npz", split="block2")
    assert given[-1].shape == (1, 8, 8, 16)
    assert np.isnan(middle["psnr_sent"]).all()


def test_guesses_need_no_features(generator, latents, tmp_path):
    found = guess(generator, latents, 2, np.zeros_like(latents), tmp_path / "x.npz")
    np.testing.assert_allclose(found["latent_error"], 1, atol=1e-6)
    assert (found["psnr"] < 50).all()


@pytest.mark.slow
def test_given_images_are_compared_with_what_is_made_anew(generator, latents, tmp_path):
    image = np.round(np.asarray(network.run(generator, latents)) * 255).astype(np.uint8)
    rest = iter((latents[:2], latents[2:]))
    found = read_given(generator, image, 2, lambda _: next(rest), tmp_path / "x.npz")
    assert (found["psnr"] > 55).all()  # 8 bits
    assert "latent_cosine" not in found


def test_a_latent_far_from_the_prior_is_unlikely(generator, latents):
    near, far = (np.asarray(unlikeliness(generator, z)) for z in (latents, 10 * latents))
    assert near.shape == (3,)
    assert (far > 2 * near).all()


def test_depths_of_the_true_features_are_exact(generator, latents):
    features, _ = network.trace(generator, latents)
    found = depths(generator, latents, features)
    assert found["errors"].shape == (3, 5)
    np.testing.assert_allclose(found["errors"], 0, atol=1e-6)
    wanted = np.round(np.asarray(features[-1]) * 255)
    assert np.abs(found["pictures"].astype(int) - wanted[:, None]).max() <= 1
    wrong = (latents * 0, *features[1:])
    assert (np.asarray(depths(generator, latents, wrong)["errors"])[:, 0] > 0.5).all()
