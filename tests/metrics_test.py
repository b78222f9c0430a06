import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from dci_jax import metrics
from dci_jax.errors import InputError


def test_psnr_has_peak_one():
    truth = jnp.full((2, 16, 16, 3), 0.5)
    found = metrics.psnr(truth.at[1].add(0.1), truth)
    assert float(found[0]) == pytest.approx(100)  # equal images: the cap, not infinity
    assert float(found[1]) == pytest.approx(20, abs=1e-3)  # 10 log10(1 / 0.01); peak 255 gives 68


def test_ssim_is_scikit_images_gaussian_variant():
    rng = np.random.default_rng(0)
    a = rng.uniform(size=(32, 32, 3)).astype(np.float32)
    b = np.clip(a + 0.2 * rng.normal(size=a.shape), 0, 1).astype(np.float32)
    expected, whole = structural_similarity(
        a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0, channel_axis=2, full=True
    )
    found = metrics.ssim(jnp.array([a]), jnp.array([b]))
    assert float(found[0]) == pytest.approx(whole[5:-5, 5:-5].mean(), abs=1e-3)
    assert abs(expected - float(found[0])) < 0.02  # scikit-image crops by another radius


def test_labels_agree_one_by_one():
    a = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    np.testing.assert_array_equal(metrics.label_agreement(a, a[::-1]), [0, 0])
    np.testing.assert_array_equal(metrics.label_agreement(a, 5 * a), [1, 1])


def test_latent_errors_are_relative_and_cosines_forget_length():
    truth = jnp.array([[3.0, 4.0], [1.0, 0.0]])
    found = jnp.array([[6.0, 8.0], [0.0, 1.0]])
    np.testing.assert_allclose(metrics.latent_cosine(found, truth), [1, 0], atol=1e-6)
    np.testing.assert_allclose(metrics.latent_error(found, truth), [1, 2**0.5], rtol=1e-6)


def test_a_shape_that_the_signature_does_not_have_is_told():
    with pytest.raises(jaxtyping.TypeCheckError, match="truth"):
        metrics.psnr(jnp.zeros((2, 8, 8, 3)), jnp.zeros((1, 8, 8, 3)))


def test_ms_ssim_is_one_for_equal_images_falls_with_noise_and_is_unknown_for_small_ones():
    rng = np.random.default_rng(0)
    a = np.float32(rng.random((2, 192, 192, 3)))
    noise = np.float32(rng.normal(0, 0.1, a.shape))
    np.testing.assert_allclose(metrics.ms_ssim(a, a), 1, atol=1e-4)
    found = metrics.ms_ssim(np.clip(a + noise, 0, 1), a)
    assert (np.asarray(found) < 0.99).all()
    assert (np.asarray(found) > np.asarray(metrics.ssim(np.clip(a + noise, 0, 1), a)) - 0.05).all()
    assert np.isnan(metrics.ms_ssim(a[:, :64, :64], a[:, :64, :64])).all()


@pytest.mark.slow
def test_the_finest_scale_of_ms_ssim_has_the_finest_scales_weight():
    """A checkerboard of single pixels is gone at the second scale, so that the first one's contrast alone is left."""
    places = np.indices((192, 192)).sum(0) % 2
    board = np.float32(0.5 + 0.1 * (2 * places - 1))[None, :, :, None]
    flat = np.full_like(board, 0.5)
    contrast = 0.03**2 / (0.1**2 + 0.03**2)  # (2 cov + C2) / (var + var' + C2), and no covariance
    found = float(metrics.ms_ssim(board, flat)[0])
    assert found == pytest.approx(contrast**0.0448, abs=2e-3)  # Wang et al., 2003: .894; the coarsest weight gives .717


def test_other_shapes_and_pixels_of_0_to_255_are_refused_and_not_broadcast():
    images, latents = jnp.zeros((2, 8, 8, 3)), jnp.zeros((2, 4))
    with pytest.raises(
        InputError, match="the shapes"
    ):  # the hook of tests is the first to refuse public functions' shapes
        metrics._pair(images, images[:1])
    with pytest.raises(InputError, match="the shapes"):
        metrics._check_pair(latents, latents[:1], 2, "[B, C]")
    with pytest.raises(InputError, match="truth is from 0 to 255"):
        metrics.psnr(images, images.at[0, 0, 0].set(255.0))
    with pytest.raises(InputError, match="images is from 0 to 255"):
        metrics.psnr(images.at[0, 0, 0].set(255.0), images)
