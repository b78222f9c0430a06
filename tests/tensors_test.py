"""Several tensors at one split: one array that loses nothing, and inverters that see all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import dci_jax
from dci_jax import network as networks
from dci_jax.attacks.inverse_network import decoder_for
from dci_jax.dci.blocks import chain_blocks, joined, split_stages
from dci_jax.dci.inverter import first, inverter_spec, regressors
from dci_jax.dci.trained.inverter_network import inverters
from dci_jax.defenses.channel import NONE, message_bytes
from dci_jax.errors import InputError
from dci_jax.inputs.mixture import Prior
from dci_jax.tensors import grid_shape, join, layout, on_grid, separate, shapes

SHAPES = ((4, 8, 3), (2, 4, 5), (8, 16, 1))


@pytest.fixture
def tensors():
    rng = np.random.default_rng(0)
    return [jnp.array(rng.normal(size=(2, *shape)), jnp.float32) for shape in SHAPES]


def test_joined_tensors_come_apart_again_and_no_number_is_there_twice(tensors):
    joined, lay = join(tensors), layout(SHAPES)
    assert lay == ((3, 2), (5, 1), (1, 4))
    assert shapes(joined.shape[1:], lay) == SHAPES
    assert joined.size == sum(t.size for t in tensors)
    for a, b in zip(separate(joined, lay), tensors, strict=True):
        np.testing.assert_array_equal(a, b)
    # As pixel_unshuffle: channel, row, column.
    np.testing.assert_array_equal(joined[:, 1, 2, :4].reshape(2, 2, 2), tensors[0][:, 2:4, 4:6, 0])


def test_on_the_largest_grid_small_tensors_are_repeated(tensors):
    joined, lay = join(tensors), layout(SHAPES)
    seen = on_grid(joined, lay, 4)
    assert seen.shape[1:] == grid_shape(joined.shape[1:], lay, 4) == (8, 16, 9)
    np.testing.assert_array_equal(seen[..., 8], tensors[2][..., 0])
    np.testing.assert_array_equal(seen[:, 5, 6, 3:8], tensors[1][:, 1, 1])
    assert on_grid(tensors[0], (), 1) is tensors[0]


def test_on_a_grid_between_large_tensors_are_folded_and_small_ones_repeated(tensors):
    joined, lay = join(tensors), layout(SHAPES)
    seen = on_grid(joined, lay, 2)
    assert seen.shape[1:] == grid_shape(joined.shape[1:], lay, 2) == (4, 8, 12)
    np.testing.assert_array_equal(seen[..., :3], tensors[0])
    np.testing.assert_array_equal(seen[:, 3, 5, 3:8], tensors[1][:, 1, 2])
    np.testing.assert_array_equal(seen[:, 1, 2, 8:].reshape(2, 2, 2), tensors[2][:, 2:4, 4:6, 0])
    np.testing.assert_array_equal(on_grid(joined, lay, 1), joined)


def test_grids_that_do_not_divide_are_refused():
    with pytest.raises(InputError, match="no whole multiples of the smaller"):
        layout(((6, 6, 1), (4, 4, 1)))
    with pytest.raises(InputError, match="no whole multiples"):
        layout(((12, 12, 1), (8, 8, 1), (4, 4, 1)))
    with pytest.raises(InputError, match="no whole multiples"):
        layout(((4, 8, 1), (2, 2, 1)))


def branches():
    """Two resolutions side by side, (their exchange as one function, the same in pieces), for images [16, 16, 3]."""
    rng = np.random.default_rng(0)
    shapes = {"stem": (3, 3, 3, 4), "low": (3, 3, 4, 6), "high": (3, 3, 4, 4), "up": (1, 1, 6, 4), "down": (3, 3, 4, 6)}
    w = {name: jnp.float32(rng.normal(0, 0.3, shape)) for name, shape in shapes.items()}

    def conv(x, kernel, stride=1):
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def begin(w, x):
        x = nn.relu(conv(x, w["stem"], 2))
        return [nn.relu(conv(x, w["high"])), nn.relu(conv(x, w["low"], 2))]

    def exchange(w, x):
        high, low = x
        up = jnp.repeat(jnp.repeat(conv(low, w["up"]), 2, 1), 2, 2)
        return [nn.relu(high + up), nn.relu(low + conv(high, w["down"], 2))]

    def end(w, x):
        high, low = x
        return high.mean((1, 2)) @ w["up"][0, 0].T + low.mean((1, 2))

    network = dci_jax.sequential("branches", (16, 16, 3), [("begin", begin, w), ("exchange", exchange, w)], (end, w))
    return lambda x: end(w, exchange(w, begin(w, x))), network


def test_pieces_may_pass_several_tensors_on():
    whole, network = branches()
    x = jax.random.uniform(jax.random.key(0), (2, 16, 16, 3))
    np.testing.assert_allclose(networks.logits(network, networks.run(network, x)), whole(x), rtol=1e-5, atol=1e-5)
    assert networks.feature_shapes(network) == ((16, 16, 3), (4, 4, 22), (4, 4, 22))
    assert [block.tensors for block in network.blocks] == [((4, 2), (6, 1))] * 2
    with pytest.raises(InputError, match=r"'odd' returns a list of \[1, 3\], \[\]; let it return one array"):
        dci_jax.sequential("bad", (4, 4, 3), [("odd", lambda w, x: [x.mean((1, 2)), 3], {})])


def test_an_inverter_between_two_such_splits_starts_from_the_joined_array_and_gives_it():
    _, network = branches()
    x = jax.random.uniform(jax.random.key(0), (2, 16, 16, 3))
    g = inverter_spec(network, 1, 2)
    assert (g.downsampling, g.upsampling, g.target, g.grid, g.same) == (1, 1, 22, (4, 4), True)
    before, after = (dci_jax.features_at(network, name, x) for name in ("begin", "exchange"))
    kernel = jnp.zeros((1, 1, g.sent, g.target))
    assert first(g, kernel, after).shape == before.shape
    u = regressors(g, network, after, after, before)
    assert u.shape == (2, 4, 4, g.channels)


class Encoder(nn.Module):
    """Of a U-Net with one halving; what it returns is chosen by number."""

    sent: tuple = (0, 1)

    @nn.compact
    def __call__(self, x):
        a = nn.relu(nn.Conv(6, (3, 3), name="a")(x))
        b = nn.relu(nn.Conv(8, (3, 3), name="b")(nn.max_pool(a, (2, 2), (2, 2))))
        boxes = jnp.mean(b, (1, 2, 3))[:, None, None]  # no features
        return {"features": [(a, b)[i] for i in self.sent], "boxes": boxes}


def encoder(*sent):
    module = Encoder(sent)
    variables = Encoder().init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    return module, variables, dci_jax.from_jax(module.apply, variables, (16, 16, 3), name="encoder")


def test_a_network_sends_all_features_that_it_returns(tensors):
    module, variables, network = encoder(0, 1)
    assert networks.split_names(network)[-1] == "outputs"
    assert network.blocks[-1].tensors == ((6, 2), (8, 1))
    x = jax.random.uniform(jax.random.key(1), (2, 16, 16, 3))
    a, b = module.apply(variables, x)["features"]
    f = networks.run(network, x)
    np.testing.assert_allclose(f, join([a, b]), atol=1e-5)
    (*_, row) = dci_jax.split_points(network)
    assert row["tensors"] == ((16, 16, 6), (8, 8, 8))
    assert row["values"] == 16 * 16 * 6 + 8 * 8 * 8
    assert (message_bytes(NONE, f, f) <= 4 * row["values"] * 1.1).all()
    decoder, shape = decoder_for(network, len(network.blocks), 4)
    found, _ = jax.eval_shape(lambda: decoder.init_with_output(jax.random.key(0), jnp.zeros((2, *shape))))
    assert found.shape == x.shape
    with pytest.raises(InputError, match="outputs sends 2 tensors"):
        inverters(network, len(network.blocks), 1.0, 64, 1, 1)


class Double(nn.Module):
    """Two convolutions, beside which the input goes past where nothing changes its shape."""

    channels: int

    @nn.compact
    def __call__(self, x):
        y = nn.Conv(self.channels, (3, 3))(nn.relu(nn.Conv(self.channels, (3, 3))(x)))
        return nn.relu(y + x if y.shape == x.shape else y)


class UNet(nn.Module):
    """Three levels down and up again."""

    @nn.compact
    def __call__(self, x):
        a = Double(4, name="down1")(x)
        b = Double(6, name="down2")(nn.max_pool(a, (2, 2), (2, 2)))
        c = Double(8, name="bottom")(nn.max_pool(b, (2, 2), (2, 2)))
        c = Double(8, name="deeper")(c)
        for skip, name in ((b, "up2"), (a, "up1")):
            c = Double(skip.shape[-1], name=name)(
                jnp.concatenate([skip, jax.image.resize(c, (*skip.shape[:3], c.shape[-1]), "nearest")], -1)
            )
        return nn.Conv(2, (1, 1), name="classes")(c)


def test_a_unet_can_be_split_at_every_level_with_its_skips():
    variables = UNet().init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    network = dci_jax.from_jax(UNet().apply, variables, (16, 16, 3))
    sent = {row["name"]: row["tensors"] for row in dci_jax.split_points(network)}
    assert sent["down1"] == ((16, 16, 4),)
    assert sent["down2"] == ((16, 16, 4), (8, 8, 6))  # before the pooling, and without what goes past inside
    assert sent["bottom"] == sent["deeper"] == ((16, 16, 4), (8, 8, 6), (4, 4, 8))
    x = jax.random.uniform(jax.random.key(1), (2, 16, 16, 3))
    np.testing.assert_allclose(networks.run(network, x), UNet().apply(variables, x), atol=1e-5)
    larger = networks.with_side(network, 32)
    shapes = networks.feature_shapes(larger)[networks.split_index(larger, "bottom")]
    assert shapes == (8, 8, 4 * 16 + 6 * 4 + 8)
    with pytest.raises(InputError, match=r"target\.side is 18"):  # 18, 9 and 4 pixels: no whole multiples
        networks.with_side(network, 18)
    # A chain to a later place undoes the blocks between together where an inverter would be too wide, and always if it is trained.
    assert chain_blocks(network, ("up1",)) is network
    small = networks.split_names(chain_blocks(networks.with_side(network, 8), ("up1", "bottom")))
    assert small == ("down1", "down2", "bottom", "up2", "up1", "classes")  # two pixels a side, 96 numbers each
    together = joined(network, ("up1", "bottom"))
    assert networks.split_names(together) == ("down1", "bottom", "up2", "up1", "classes")
    np.testing.assert_allclose(networks.run(together, x), networks.run(network, x), atol=1e-5)
    assert joined(network, ("up1", "bottom")).blocks[1].apply is together.blocks[1].apply  # compiled once


class Gated(nn.Module):
    """A gate of one pixel beside a block, and two branches that meet behind the pooling alone."""

    @nn.compact
    def __call__(self, x):
        a = Double(4, name="a")(x)
        gate = a.mean((1, 2), keepdims=True)
        for name in ("gate0", "gate1"):
            gate = nn.relu(nn.Conv(4, (1, 1), name=name)(gate))
        b = Double(4, name="b")(a * gate)
        c, d = Double(5, name="c")(b), Double(6, name="d")(nn.max_pool(b, (2, 2), (2, 2)))
        return nn.Dense(3, name="classes")(jnp.concatenate([c.mean((1, 2)), d.mean((1, 2))], -1))


def test_a_gate_is_not_sent_and_branches_that_meet_late_are():
    variables = Gated().init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    network = dci_jax.from_jax(Gated().apply, variables, (8, 8, 3))
    sent = {row["name"]: row["tensors"] for row in dci_jax.split_points(network)}
    assert sent == {
        "a": ((8, 8, 4),),
        "gate1": ((8, 8, 4),),  # behind it
        "b": ((8, 8, 4),),
        "c": ((8, 8, 4), (8, 8, 5)),  # d starts from b
        "d": ((8, 8, 5), (4, 4, 6)),
    }


def test_stages_of_a_block_send_one_tensor_but_for_the_last():
    def stage(params, x):
        return x, {}

    block = networks.Block({}, "stem", stage, stages=(stage, stage), tensors=((1, 2), (2, 1)), beside=0)
    network = networks.Network((block,), None, "two", (4, 4, 6))
    first, last = split_stages(network).blocks
    assert (first.tensors, last.tensors) == ((), ((1, 2), (2, 1)))


def test_channels_that_do_not_come_apart_are_refused(tensors):
    with pytest.raises(
        InputError, match=r"have 34 channels, but the tensors of this split have 3 x 4 \+ 5 x 1 \+ 1 x 16"
    ):
        separate(jnp.pad(join(tensors), ((0, 0), (0, 0), (0, 0), (0, 1))), layout(SHAPES))


@pytest.mark.slow
def test_a_head_whose_answer_is_not_returned_keeps_nothing_alive():
    class Unit(nn.Module):
        stride: int = 1

        @nn.compact
        def __call__(self, x):
            x = nn.Conv(4, (3, 3), (self.stride,) * 2)(x)
            return nn.relu(nn.BatchNorm(use_running_average=True)(x))

    class Backbone(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = Unit(2, name="stem")(x)
            first = x
            for level in range(3):
                x = Unit(name=f"b{level}")(Unit(1 + (level > 0), name=f"a{level}")(x))
            nn.Conv(2, (1, 1), name="unused")(first)
            return x

    module = Backbone()
    variables = module.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    network = dci_jax.from_jax(module.apply, variables, (16, 16, 3))
    assert len(networks.split_names(network)) > 3
    x = jax.random.uniform(jax.random.key(1), (2, 16, 16, 3))
    np.testing.assert_allclose(networks.run(network, x), module.apply(variables, x), atol=1e-5)


def test_an_answer_without_features_is_refused():
    with pytest.raises(InputError, match=r"returns \[2\], \[2, 1, 3\] for 2 images"):
        dci_jax.from_jax(lambda v, x: (x.mean((1, 2, 3)), x.mean((1, 2))[:, None]), {}, (16, 16, 3))


@pytest.mark.slow
def test_all_tensors_together_read_more_than_the_smaller_alone_and_a_chain_is_kept(tmp_path):
    found, prior = {}, Prior((), (("dead_leaves", 1.0),), (16, 16, 3))
    settings = dict(num_images=32, num_validation=16, num_corrections=1, kernel_size=3, max_unknowns=(1000, 500))
    for sent in ((1,), (0, 1)):
        module, variables, network = encoder(*sent)
        name = networks.split_names(network)[-1]
        chain = dci_jax.solve_chain(network, name, prior, key=jax.random.key(2), progress=False, **settings)
        found[sent] = chain.validation_psnr
    assert found[0, 1] > found[(1,)] + 3
    x = jax.random.uniform(jax.random.key(1), (2, 16, 16, 3))
    together = module.apply(variables, x)["features"]
    np.testing.assert_allclose(chain(tuple(together)), chain(join(together)), atol=1e-6)
    with pytest.raises(InputError, match=r"\[16, 16, 6\] \+ \[8, 8, 8\] at outputs; give them in this order"):
        chain(tuple(together[::-1]))
    chain.save(tmp_path / "chain.safetensors")
    again = dci_jax.load_chain(tmp_path / "chain.safetensors", network)
    np.testing.assert_array_equal(again(join(together)), chain(join(together)))
