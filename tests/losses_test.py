import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dci_jax import losses


@pytest.mark.parametrize("name", losses.DISTANCES)
def test_a_distance_is_zero_at_the_truth_and_does_not_change_with_the_features_scale(name):
    rng = np.random.default_rng(0)
    truth, estimate = jnp.float32(rng.normal(size=(2, 4, 5, 5, 3)))
    distance = losses.DISTANCES[name]
    assert float(distance(truth, truth)) == pytest.approx(0, abs=1e-6)
    scaled = distance(100 * estimate, 100 * truth)
    assert float(scaled) == pytest.approx(float(distance(estimate, truth)), rel=1e-3)


def test_guessing_the_mean_scores_one():
    truth = jnp.array(np.random.default_rng(0).normal(3, 2, size=(8, 6, 6, 1)), jnp.float32)
    mean = jnp.full_like(truth, truth.mean())
    assert float(losses.l1(mean, truth)) == pytest.approx(1, rel=1e-4)
    assert float(losses.l2(mean, truth)) == pytest.approx(1, rel=1e-4)


def test_total_variation_of_a_ramp_is_its_slope():
    ramp = jnp.broadcast_to(0.1 * jnp.arange(5.0)[None, :, None, None], (1, 5, 5, 3))
    assert float(losses.total_variation(ramp)) == pytest.approx(0.1, rel=1e-3)


def test_batch_norm_statistics_by_hand():
    running = [{"bn": {"mean": jnp.zeros(2), "var": jnp.array([3.0, 4.0])}}]
    found = [{"bn": {"mean": jnp.array([0.0, 1.0]), "var": jnp.array([3.0, 9.0])}}]
    expected = 1 / np.sqrt(7) + 5 / 5
    assert float(losses.batch_norm_statistics(found, running)) == pytest.approx(expected, rel=1e-5)
    assert float(losses.batch_norm_statistics(running, running)) == pytest.approx(0, abs=1e-9)


def test_statistics_that_are_met_exactly_have_a_gradient():
    """A blank image's mean in an untrained network is the running mean, 0."""
    running = [{"bn": {"mean": jnp.zeros(2), "var": jnp.ones(2)}}]
    (slope,) = jax.grad(lambda found: losses.batch_norm_statistics(found, running))(running)
    assert jnp.isfinite(slope["bn"]["mean"]).all()


def test_the_first_layers_weight_counts():
    def tree(first, second):
        return [
            {"bn": {"mean": jnp.array([first]), "var": jnp.ones(1)}},
            {"bn": {"mean": jnp.array([second]), "var": jnp.ones(1)}},
        ]

    plain = losses.batch_norm_statistics(tree(1.0, 0.0), tree(0.0, 0.0))
    assert float(plain) == pytest.approx(0.5)
    assert float(losses.batch_norm_statistics(tree(1.0, 0.0), tree(0.0, 0.0), first=3)) == pytest.approx(0.75)


def test_without_batch_norm_the_loss_is_an_error_and_not_zero():
    with pytest.raises(ValueError, match="no BatchNorm"):
        losses.batch_norm_statistics([{}], [{}])


def test_gradients_are_finite_on_constant_images():
    gradient = jax.grad(losses.total_variation)(jnp.full((1, 4, 4, 3), 0.5))
    assert np.all(np.isfinite(gradient))


def test_distance_correlation_is_about_zero_for_independent_noise_of_any_dimension_and_one_for_a_function():
    noise, other = (jax.random.normal(jax.random.key(seed), (128, 3072)) for seed in (0, 1))
    few, none = (jax.random.normal(jax.random.key(seed), (128, 2)) for seed in (2, 3))
    assert abs(float(losses.distance_correlation(noise, other))) < 0.05  # .99 without a correction of its bias
    assert abs(float(losses.distance_correlation(few, none))) < 0.05
    # Of an orthogonal map it is 1: distances are the same.
    mirror = np.linalg.qr(np.random.default_rng(0).normal(size=(2, 2)))[0].astype(np.float32)
    assert float(losses.distance_correlation(few, 3 * few @ mirror + 5)) == pytest.approx(1, abs=1e-3)
    assert 0.5 < float(losses.distance_correlation(few, few**3)) < 1


def test_distance_correlation_is_that_of_the_papers_sums():
    """Székely & Rizzo, Annals of Statistics 2014, definition 2 and equation 2.4, entry by entry."""
    points = np.random.default_rng(0).normal(size=(2, 6, 3)).astype(np.float32)
    count, centred = 6, []
    for some in points:
        d = np.linalg.norm(some[:, None] - some, axis=2)
        u = d - d.sum(0) / (count - 2) - d.sum(1)[:, None] / (count - 2) + d.sum() / ((count - 1) * (count - 2))
        np.fill_diagonal(u, 0)
        centred.append(u)
    a, b = centred
    expected = (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
    assert float(losses.distance_correlation(*points)) == pytest.approx(expected, abs=1e-4)
    assert np.isfinite(jax.grad(losses.distance_correlation)(*jnp.array(points))).all()
