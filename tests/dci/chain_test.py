import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dci_jax
from dci_jax.dci import chain_file as chains
from dci_jax.errors import InputError

NOISE = (("white_noise", 1.0),)  # compiles at once
IMAGES = np.asarray(np.random.default_rng(0).uniform(0, 1, (2, 16, 16, 3)), np.float32)


def block(kernel, x):
    return jax.nn.softplus(
        jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    )


@pytest.fixture(scope="module")
def network():
    """Two convolutions, which compile at once."""
    rng = np.random.default_rng(1)
    kernels = (rng.normal(0, 0.3, shape).astype(np.float32) for shape in ((3, 3, 3, 16), (3, 3, 16, 16)))
    pieces = [(name, block, kernel) for name, kernel in zip(("first", "second"), kernels, strict=True)]
    return dci_jax.sequential("small", (16, 16, 3), pieces)


@pytest.fixture(scope="module")
def chain(network):
    prior = dci_jax.fit_prior(network, key=jax.random.key(0), weights=NOISE, num_steps=0)
    few = {
        "num_images": 32,
        "num_validation": 16,
        "batch_size": 16,
        "num_corrections": 1,
        "kernel_size": 3,
        "progress": False,
    }
    return dci_jax.solve_chain(network, "second", prior, key=jax.random.key(1), samples_per_unknown=1, **few)


@pytest.fixture(scope="module")
def features(network):
    return dci_jax.features_at(network, "second", IMAGES)


@pytest.mark.slow
def test_jit_vmap_and_sharded_features_give_what_the_call_gives(chain, features):
    plain = chain(features)
    assert plain.shape == IMAGES.shape
    for program in (jax.jit(chain), jax.jit(lambda f: jax.tree.map(jnp.asarray, chain)(f))):
        np.testing.assert_allclose(program(features), plain, atol=1e-4)
    np.testing.assert_allclose(jax.jit(lambda chain, f: chain(f))(chain, features), plain, atol=1e-4)
    np.testing.assert_allclose(jax.vmap(chain)(features[:, None])[:, 0], plain, atol=1e-4)
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.device_put(features, jax.NamedSharding(mesh, jax.P("data")))
    np.testing.assert_allclose(chain(split), plain, atol=1e-4)


@pytest.mark.slow
def test_the_gradient_through_a_chain_is_that_of_differences(chain, features):
    def brightness(f):
        return jnp.mean(chain(f)[0])

    direction = jax.random.normal(jax.random.key(2), features.shape)
    slope = float(jnp.sum(jax.grad(brightness)(features) * direction))
    step = 1e-3
    differences = (brightness(features + step * direction) - brightness(features - step * direction)) / (2 * step)
    assert slope == pytest.approx(float(differences), rel=0.05)


def test_estimates_are_those_of_every_block(chain, network, features):
    found = chain.estimates(features)
    assert [f.shape[1:] for f in found] == list(dci_jax.network.feature_shapes(network)[:3])
    np.testing.assert_array_equal(found[-1], features)


@pytest.mark.parametrize("shape", [(2, 16, 8, 16), (2, 8, 8, 16), (2, 16, 16, 8), (16, 16, 16)])
def test_features_of_another_shape_are_one_sentence(chain, shape):
    with pytest.raises(InputError, match=r"gives \[B, 16, 16, 16\] at second") as refused:
        chain(jnp.zeros(shape))
    assert "--config" not in str(refused.value)


def test_a_chain_reconstructs_larger_images(chain, network):
    images = np.asarray(np.random.default_rng(1).uniform(0, 1, (1, 24, 24, 3)), np.float32)
    features = dci_jax.features_at(dci_jax.with_side(network, 24), "second", images)
    assert chain.at_side(24)(features).shape == images.shape


def test_a_saved_chain_is_the_same_chain_and_another_networks_is_refused(chain, network, features, tmp_path):
    path = tmp_path / "chain.safetensors"
    chain.save(path)
    loaded = dci_jax.load_chain(path, network)
    np.testing.assert_array_equal(loaded(features), chain(features))
    assert repr(loaded) == repr(chain)
    assert loaded.validation_psnr == chain.validation_psnr > 0
    other = jax.tree.map(lambda leaf: leaf + 1e-3, network)
    with pytest.raises(InputError, match="with other weights"):
        dci_jax.load_chain(path, other)
    with pytest.raises(InputError, match="another normalization"):
        dci_jax.load_chain(path, network.replace(mean=(0.5,)))
    with pytest.raises(InputError, match="No chain at"):
        dci_jax.load_chain(tmp_path / "absent", network)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="cannot be read"):
        dci_jax.load_chain(path, network)


def test_a_flipped_bit_in_a_kernel_is_refused(chain, network, tmp_path):
    path = tmp_path / "chain"
    chain.save(path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged or was edited"):
        dci_jax.load_chain(path, network)


def test_a_file_whose_description_was_edited_is_one_sentence(chain, network, tmp_path, monkeypatch):
    monkeypatch.setattr(chains, "_digest", lambda about, arrays: "")  # as if it were signed again
    path = tmp_path / "chain"
    chain.save(path)
    path.write_bytes(path.read_bytes().replace(b"downsampling", b"downsamplinG"))
    with pytest.raises(InputError, match=r"cannot be read \(TypeError"):
        dci_jax.load_chain(path, network)
    chain.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'upsampling\\": 1', b'upsampling\\": 2'))
    assert path.read_bytes() != whole
    with pytest.raises(InputError, match=r"was edited: its inverter of block 1 is not that of small"):
        dci_jax.load_chain(path, network)


def test_a_chain_of_another_version_is_refused(chain, network, tmp_path, monkeypatch):
    monkeypatch.setattr(chains, "VERSION", 0)
    chain.save(tmp_path / "old.safetensors")
    monkeypatch.undo()
    with pytest.raises(InputError, match="version 0, but this library reads version 4"):
        dci_jax.load_chain(tmp_path / "old.safetensors", network)


def test_the_repr_shows_blocks_kernels_and_corrections(chain):
    assert repr(chain).startswith("Chain(small at second, 2 inverters, validation PSNR ")
    assert "\n  first: kernel 3 x 3, 1 corrections 3 x 3" in repr(chain)


def test_a_defended_chain_needs_its_defense_to_be_loaded(network, features, tmp_path):
    prior = dci_jax.fit_prior(network, key=jax.random.key(0), weights=NOISE, num_steps=0)
    defense = dci_jax.learn_defense(network, "second", "quantize", 2, prior, key=jax.random.key(3))
    few = {
        "num_images": 32,
        "num_validation": 16,
        "batch_size": 16,
        "num_corrections": 1,
        "kernel_size": 1,
        "progress": False,
    }
    chain = dci_jax.solve_chain(
        network, "second", prior, key=jax.random.key(1), samples_per_unknown=1, defense=defense, **few
    )
    sent = dci_jax.defenses.send(defense, jax.random.key(4), features)
    chain.save(tmp_path / "chain")
    np.testing.assert_array_equal(dci_jax.load_chain(tmp_path / "chain", network, defense)(sent), chain(sent))
    with pytest.raises(InputError, match="another defense"):
        dci_jax.load_chain(tmp_path / "chain", network)


def test_nothing_is_written_without_a_folder(network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prior = dci_jax.fit_prior(network, key=jax.random.key(0), weights=NOISE, progress=False)
    few = {"num_images": 16, "num_validation": 8, "batch_size": 8, "num_corrections": 0, "kernel_size": 1}
    dci_jax.solve_chain(network, "first", prior, key=jax.random.key(1), samples_per_unknown=1, progress=False, **few)
    assert not list(tmp_path.iterdir())
