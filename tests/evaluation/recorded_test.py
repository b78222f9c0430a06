import json

import numpy as np
import pytest

from configs import tiny
from dci_jax import experiment, models
from dci_jax.check import check
from dci_jax.defenses.registry import DEFENSES
from dci_jax.errors import InputError
from dci_jax.evaluation import recorded
from dci_jax.evaluation.recorded import read_dump
from dci_jax.fingerprint import fingerprint
from dci_jax.network import features_at, split_index
from dci_jax.report import __main__ as command
from dci_jax.runtime.workdir import claim

PIXELS = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3), np.uint8)
FEATURES = np.maximum(np.random.default_rng(0).normal(size=(3, 32, 32, 16)), 0).astype(np.float32)


def dump(path, **arrays):
    np.savez(path, **{"features": FEATURES, "split": "layer1.0"} | arrays)
    return path


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"split": "layer9"}, "no split point 'layer9'"),
        ({"split": "layer2.0"}, r"sends \[N, 16, 16, 32\] after layer2.0"),
        ({"features": FEATURES[:0]}, "N at least 1"),
        ({"features": FEATURES.transpose(0, 3, 1, 2)}, "channels last"),
        ({"features": np.int8(FEATURES)}, "are int8, not floating-point"),
        ({"features": np.full_like(FEATURES, np.nan)}, "are not finite; record it again"),
        ({"features": np.array([None])}, "holds Python objects"),
    ],
)
def test_a_dump_that_is_not_of_this_network_is_refused(arrays, said, network, tmp_path):
    with pytest.raises(InputError, match=said):
        read_dump(dump(tmp_path / "d.npz", **arrays), network)


def test_a_dump_that_cannot_be_read_is_refused(network, tmp_path):
    whole = dump(tmp_path / "d.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.npz").write_text("features")
    np.savez(tmp_path / "other.npz", x=FEATURES)
    for name, said in (
        ("cut", "is damaged or no npz"),
        ("text", "is damaged or no npz"),
        ("other", "has no 'features' but"),
    ):
        with pytest.raises(InputError, match=said):
            read_dump(tmp_path / f"{name}.npz", network)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"splits": ("stem",)}, "was recorded at layer1.0; leave splits empty"),
        ({"defenses": (("none", 0.0), ("gaussian", 1.0))}, "went through one; name that"),
        ({"defenses": (("bottleneck", 4.0),)}, "A dump lacks"),
        ({"defenses": (("dropout_marked", 0.5),)}, "no zero in .* is negative"),
        ({"data.images": "two.npz"}, "holds 3 examples and data.images 2"),
        ({"features": "missing.npz"}, "No features at missing.npz"),
    ],
)
def test_what_does_not_fit_a_dump_is_refused(changes, said, network, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "load", lambda *_: network)
    monkeypatch.chdir(tmp_path)
    np.savez("two.npz", images=PIXELS[:2])
    config = tiny.get_config()
    config.splits, config.attacks = (), ("inverse_network",)
    config.features = str(dump(tmp_path / "d.npz"))
    config.update_from_flattened_dict(changes)
    with pytest.raises(InputError, match=said):
        check(config)


@pytest.mark.slow
def test_what_was_sent_is_read_back_without_its_images(tmp_path):
    network = models.load("cifar_resnet20", "")
    sent = features_at(network, split_index(network, "stem"), PIXELS / np.float32(255))
    file = dump(tmp_path / "d.npz", features=sent, split="stem")
    config = tiny.get_config()
    config.features, config.splits, config.attacks = str(file), (), ("dci",)
    config.synthesis.batches, config.inputs.synthetic = 0, 0.0
    config.dci.update(num_images=32, num_validation=16, batch=16, num_corrections=1, kernel_size=3)
    case = check(config)
    claim(tmp_path / "run", json.loads(config.to_json_best_effort()), "", fingerprint(config, case))
    experiment.run(config, case, tmp_path / "run")
    with np.load(tmp_path / "run" / "evaluation" / "dci" / "stem none.npz") as saved:
        found, error = saved["reconstruction"], saved["feature_error"]
    assert np.abs(found / 255.0 - PIXELS / 255.0).mean() < 0.15  # chance: .33
    assert error.max() < 0.3
    page = command.again(tmp_path / "run").read_text()
    assert "Their images are not known here" in page


def test_defenses_whose_parameters_the_network_alone_determines_can_be_named():
    named = {kind for kind, row in DEFENSES.items() if row.learn and not recorded._has_secrets(row)}
    assert named == {"shuffle_tokens", "drop_tokens", "merge_tokens"}
