import json

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


def test_differences_are_named_with_their_section():
    old = {"a": 1, "b": {"c": 2, "d": 3}}
    assert experiment.differences(old, {"a": 1, "b": {"c": 5}, "e": 0}) == ["b.c", "b.d", "e"]


def test_a_workdir_belongs_to_one_config(tmp_path):
    config = tiny.get_config()
    experiment.claim(tmp_path, config, "the command")
    experiment.claim(tmp_path, config, "the command")
    config.dci.cycle = 0.0
    with pytest.raises(InputError, match=r"differs in dci\.cycle"):
        experiment.claim(tmp_path, config, "the command")
    assert json.loads((tmp_path / "config.json").read_text())["dci"]["cycle"] == 1.0


def test_timing_adds_up_over_resumed_runs(tmp_path):
    for _ in range(2):
        with experiment.timing(tmp_path, "attack"):
            pass
    (tmp_path / "timing.json").write_text(
        '{"attack": {"wall_s": 5, "compile_s": 1, "device_s": 5}}'
    )
    with experiment.timing(tmp_path, "attack"):
        pass
    assert json.loads((tmp_path / "timing.json").read_text())["attack"]["wall_s"] >= 5


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
