import numpy as np
import pytest

from configs import tiny
from dci_jax import data, experiment
from dci_jax.errors import InputError


def test_floors_know_nothing_of_their_image():
    pixels = np.random.default_rng(0).integers(0, 255, (4, 2, 2, 3), np.uint8)
    floors = experiment.floors(pixels, seed=0)
    assert (floors["mean_image"] == floors["mean_image"][0]).all()
    for guess, truth in zip(floors["random_image"], pixels, strict=True):
        assert not np.array_equal(guess, truth)
        assert any(np.array_equal(guess, other) for other in pixels)


def test_the_oracle_never_trains_on_an_evaluated_image(tmp_path, monkeypatch, network):
    monkeypatch.setattr(experiment.models, "load", lambda *_: network)
    path = tmp_path / "x.npz"
    np.savez(path, images=np.random.default_rng(0).integers(0, 255, (6, 32, 32, 3), np.uint8))
    config = tiny.get_config()
    config.data.images = config.oracle.images = str(path)
    config.data.count = 2
    setting = experiment.check(config)
    assert len(setting.private) == 2
    assert len(setting.oracle) == 4
    assert not {p.tobytes() for p in setting.private.pixels} & {
        p.tobytes() for p in setting.oracle.pixels
    }
    assert experiment.attack_names(config)[-1] == "oracle"
    config.data.count = 0
    with pytest.raises(InputError, match="also evaluated"):
        experiment.check(config)


def test_the_quickstarts_photographs_are_the_default(monkeypatch, network):
    monkeypatch.setattr(experiment.models, "load", lambda *_: network)
    assert experiment.check(tiny.get_config()).private.names == data.photographs(32).names
