import importlib
import subprocess
import sys

import jax
import numpy as np
import pytest

import dci_jax
from dci_jax import settings
from dci_jax.defenses.channel import Channel
from dci_jax.errors import InputError
from tests.conftest import ROOT
from tests.dci.chain_test import NOISE, network  # noqa: F401  a network that compiles at once


def test_every_public_name_is_there_and_documented():
    for name in dci_jax.__all__:
        assert importlib.util.find_spec("dci_jax").name == "dci_jax"
        assert getattr(dci_jax, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'magic'"):
        dci_jax.magic  # noqa: B018


def test_importing_the_package_imports_no_jax():
    said = subprocess.run(
        [sys.executable, "-c", "import dci_jax, sys; print('jax' in sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert said.stdout.strip() == "False", said.stderr


def test_the_defaults_of_solve_chain_are_those_of_the_config():
    import inspect

    config, given = settings.default().dci, inspect.signature(dci_jax.solve_chain).parameters
    names = {name: "batch_size" if name == "batch" else name for name in config if name != "splits"}
    assert {field: given[name].default for field, name in names.items()} == {field: config[field] for field in names}


def test_an_audit_gives_the_command_lines_page_and_numbers(network, tmp_path):  # noqa: F811
    images = np.asarray(np.random.default_rng(0).uniform(0, 1, (3, 16, 16, 3)), np.float32)
    quick = {
        "inputs.dead_leaves": 0.0,
        "inputs.pink_noise": 1.0,
        "dci.num_images": 32,
        "dci.samples_per_unknown": 1,
        "dci.num_corrections": 0,
    }
    defenses = (("gaussian", 1.0), ("gaussian", 1e-9))
    with_defense = {"splits": ("second",), "defenses": defenses, "attacks": ("dci", "adapted_dci")}
    report = dci_jax.audit(network, images, **with_defense, settings=quick, progress=False)
    report.save(tmp_path / "report")
    rows = report.to_records()
    assert {row["attack"] for row in rows} == {"mean_image", "random_image", "thumbnail", "dci", "adapted_dci"}
    assert all(isinstance(row["psnr"], float) for row in rows)
    assert (tmp_path / "report" / "report" / "index.html").read_bytes() == report.files["report/index.html"]
    assert report.verdict.startswith("Of 2 pairs of split point and defense")
    assert "<iframe" in report._repr_html_()
    # Behind a defense that does nothing an adapted attack is the plain one: it learns from the same images.
    plain, adapted = (
        next(r["psnr"] for r in rows if (r["attack"], r["strength"]) == (attack, 1e-9))
        for attack in ("dci", "adapted_dci")
    )
    assert adapted == pytest.approx(plain, abs=0.02)  # by other programs; other images made 2 dB


def test_features_are_matched_by_optimization_and_by_gauss_newton(network):  # noqa: F811
    images = np.asarray(dci_jax.Prior((), NOISE, network.input_shape).sample(jax.random.key(1), 2))
    features = dci_jax.features_at(network, "first", images)
    start = np.clip(images + 0.1, 0, 1)
    before = dci_jax.metrics.psnr(start, images).mean()
    refined = dci_jax.optimize(
        network, "first", features, start=start, num_steps=30, total_variation=0.0, progress=False
    )
    assert dci_jax.metrics.psnr(refined, images).mean() > before + 3
    solved = dci_jax.gauss_newton(network, "first", features, start=start, num_steps=3)
    assert dci_jax.metrics.psnr(solved, images).mean() > before + 10
    with pytest.raises(InputError, match=r"gives \[B, 16, 16, 16\] at first, channels last"):
        dci_jax.optimize(network, "first", features[..., :3])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            {"images": np.zeros((2, 3, 16, 16))},
            r"images have the shape \[2, 3, 16, 16\], but small takes \[N, 16, 16, 3\], channels last",
        ),
        (
            {"images": np.full((2, 16, 16, 3), 255.0)},
            r"images are float64 from 255 to 255; give uint8, or floats in \[0, 1\]",
        ),
        ({"images": np.full((2, 16, 16, 3), np.nan)}, "images are float64 from nan"),
        ({"images": np.zeros((0, 16, 16, 3), np.uint8)}, r"images have the shape \[0, 16, 16, 3\]"),
        ({"images": "absent"}, "No images at absent"),
        ({"images": np.zeros((2, 16, 16, 3)), "labels": [1]}, "give one number for each of the 2 images"),
        ({"splits": ("third",)}, "no split point 'third'; choose from: first, second"),
        ({"attacks": ("magic",)}, "No attack is called 'magic'"),
        ({"defenses": (("gaussian", -1.0),)}, "'gaussian' the strength -1"),
        ({"settings": {"dci.magic": 1}}, "no setting 'dci.magic'"),
        ({"settings": {"dci.num_images": 0}}, "dci.num_images is 0"),
        ({"num_queries": (0,)}, "num_queries is"),
        ({"defenses": (("gaussian", "x"),)}, "defenses is .*; give a value such as"),
        ({"defenses": ("gaussian", 1.0)}, "defenses is .*; give a value such as"),
    ],
)
def test_an_audit_refuses_what_does_not_fit_in_one_sentence(network, arguments, said):  # noqa: F811
    with pytest.raises(InputError, match=said) as refused:
        dci_jax.audit(network, **arguments)
    assert "--config" not in str(refused.value)


def test_a_network_is_no_features(network):  # noqa: F811  it has a dtype, too
    with pytest.raises(InputError, match="x is a Network; give an array"):
        dci_jax.features_at(network, "first", network)


def test_unknown_settings_of_a_trained_chain_are_named(network):  # noqa: F811
    with pytest.raises(InputError, match="dci_trained has no setting 'steps'"):
        dci_jax.train_chain(
            network, "first", dci_jax.Prior((), NOISE, network.input_shape), key=jax.random.key(0), steps=3
        )


def test_a_trained_chain_is_saved_and_read(network, tmp_path):  # noqa: F811
    prior = dci_jax.Prior((), NOISE, network.input_shape)
    few = {"divide_steps": 2, "conquer": (), "batch": 4, "width": 1.0, "num_corrections": 1, "progress": False}
    chain = dci_jax.train_chain(network, "second", prior, key=jax.random.key(0), **few)
    features = dci_jax.features_at(network, "second", np.zeros((1, 16, 16, 3)))
    chain.save(tmp_path / "trained")
    np.testing.assert_array_equal(dci_jax.load_chain(tmp_path / "trained", network)(features), chain(features))


def test_synthetic_images_join_a_prior(network):  # noqa: F811
    with pytest.raises(InputError, match="weight is 0"):
        dci_jax.with_synthetic(dci_jax.Prior((), NOISE, network.input_shape), np.zeros((4, 16, 16, 3), np.uint8), 0)
    prior = dci_jax.with_synthetic(
        dci_jax.Prior((), NOISE, network.input_shape), np.zeros((4, 16, 16, 3), np.uint8), 0.5
    )
    assert int((prior.sample(jax.random.key(0), 8).max((1, 2, 3)) == 0).sum()) == 4


OTHER = Channel("prune_channels", 0.5, params={"kept": np.ones(3, np.float32)})  # learned for three channels
REFUSED = {
    "solve_chain": [
        ({"split": "third"}, "no split point 'third'"),
        ({"num_images": 0}, "num_images is 0; give a whole number of at least 16"),
        ({"num_images": 16.5}, "num_images is 16.5"),
        ({"num_validation": True}, "num_validation is True"),
        ({"kernel_size": 4}, "kernel_size is 4; give 1, 3, 5 or 7"),
        ({"num_corrections": -1}, "num_corrections is -1"),
        ({"max_unknowns": 5}, "max_unknowns is 5; give two numbers"),
        ({"batch_size": float("nan")}, "batch_size is nan"),
        ({"prior": None}, "prior is a NoneType; give what fit_prior returns"),
        (
            {"prior": dci_jax.Prior((), NOISE, (16, 16, 1))},
            r"inputs of shape \[16, 16, 1\], but small takes \[16, 16, 3\]",
        ),
        ({"prior": dci_jax.Prior((), NOISE, (32, 32, 3))}, r"inputs of shape \[32, 32, 3\]"),
        ({"key": 0}, r"key is 0; give a PRNG key, such as jax.random.key\(0\)"),
        ({"cache_dir": __file__}, "which is not a folder"),
        ({"defense": "gaussian"}, "defense is 'gaussian'; give what learn_defense returns"),
        ({"defense": OTHER}, r"prune_channels 0.5 does not suit the features \[16, 16, 16\] at second"),
    ],
    "fit_prior": [
        ({"weights": (("cats", 1.0),)}, "No input source is called 'cats'"),
        ({"side": -3}, "side is -3"),
        ({"num_steps": -1}, "num_steps is -1"),
        ({"weights": 5}, r"weights is 5; give pairs, such as \(\('dead_leaves', 0.8\),\)"),
        ({"padding": 4}, "padding is 4; give widths to try"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"padding": ()}, r"padding is \(\)"),
        ({"padding": (9,)}, "padding has 9, but the images have 16 pixels"),
    ],
    "learn_defense": [
        ({"kind": "lock"}, "No defense is called 'lock'"),
        ({"kind": "quantize", "strength": -1}, "strength is -1; give 'quantize' a whole number"),
        ({"num_queries": 0}, "num_queries is 0"),
    ],
    "optimize": [
        ({"num_steps": 0}, "num_steps is 0"),
        ({"learning_rate": -1}, "learning_rate is -1"),
        ({"start": np.zeros((3, 16, 16, 3))}, r"start has the shape \[3, 16, 16, 3\]"),
    ],
    "gauss_newton": [({"damping": -1}, "damping is -1"), ({"total_variation": -1}, "total_variation is -1")],
    "synthesize": [
        ({"num_images": 0}, "num_images is 0"),
        ({}, "no BatchNorm layer and no head"),
        ({"magic": 1}, "no setting 'magic'"),
    ],
    "load_network": [({"name": "resnet7"}, "No network is called 'resnet7'")],
    "with_side": [({"side": 0}, "side is 0")],
}
CASES = [(name, given, said) for name, cases in REFUSED.items() for given, said in cases]


@pytest.mark.parametrize(("name", "given", "said"), CASES)
def test_an_argument_that_does_not_fit_is_one_sentence_before_any_work(network, name, given, said):  # noqa: F811
    prior, key = dci_jax.Prior((), NOISE, network.input_shape), jax.random.key(0)
    features = np.zeros((2, 16, 16, 16), np.float32)
    usual = {
        "solve_chain": {"network": network, "split": "second", "prior": prior, "key": key},
        "fit_prior": {"network": network, "key": key},
        "learn_defense": {
            "network": network,
            "split": "second",
            "kind": "gaussian",
            "strength": 1,
            "prior": prior,
            "key": key,
        },
        "optimize": {"network": network, "split": "first", "features": features},
        "gauss_newton": {"network": network, "split": "first", "features": features},
        "synthesize": {"network": network, "key": key},
        "load_network": {},
        "with_side": {"network": network},
    }[name]
    with pytest.raises(InputError, match=said) as refused:
        getattr(dci_jax, name)(**(usual | given))
    assert "--config" not in str(refused.value)


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (None, "give an array of floats"),
        ([[1.0]], r"gives \[B, 16, 16, 16\] at second"),
        (np.zeros((2, 16, 16, 16), np.int8), "quantized features as the numbers they stand for"),
        (np.zeros((2, 16, 16, 16), np.float32), ""),
    ],
)
def test_a_chain_refuses_what_is_no_batch_of_features(network, features, said):  # noqa: F811
    prior, few = dci_jax.Prior((), NOISE, network.input_shape), {"num_images": 16, "num_validation": 8, "batch_size": 8}
    chain = dci_jax.solve_chain(
        network, "second", prior, key=jax.random.key(0), num_corrections=0, kernel_size=1, progress=False, **few
    )
    if not said:
        assert chain(features).shape == (2, 16, 16, 3)
        with pytest.raises(InputError, match="There is no folder"):
            chain.save("absent/chain.safetensors")
    else:
        with pytest.raises(InputError, match=said):
            chain(features)


def test_pixels_of_0_to_255_are_refused_for_they_would_be_a_weak_audit(network):  # noqa: F811
    with pytest.raises(InputError, match="x is an array of uint8; give an array of floats"):
        dci_jax.features_at(network, "first", np.zeros((1, 16, 16, 3), np.uint8))


def test_split_points_say_what_they_cost(network):  # noqa: F811
    first, second = dci_jax.split_points(network)[:2]
    assert (first["name"], second["name"]) == ("first", "second")
    assert first["values"] == first["bytes_8bit"] == first["bytes_float32"] // 4 == np.prod(first["shape"])
    assert 0 < first["share_of_flops"] < second["share_of_flops"] <= 1
    assert first["share_of_input"] == first["values"] / np.prod(network.input_shape)
