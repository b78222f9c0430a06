"""The trainers refuse what they could not train with, in one sentence, before any image is read twice."""

import numpy as np
import pytest

from dci_jax.errors import InputError
from training import target
from training.arguments import finish


@pytest.fixture
def labelled(tmp_path):
    """Twelve images of three classes, and a function that trains on them with more arguments."""
    rng = np.random.default_rng(0)
    file = tmp_path / "images.npz"
    np.savez(file, images=rng.integers(0, 255, (12, 32, 32, 3), np.uint8), labels=np.arange(12) % 3)

    def train(*more, train=file, out=tmp_path / "trained.safetensors"):
        target.main([f"--train_images={train}", f"--test_images={file}", f"--out={out}", "--batch=4", *more])

    return train


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--epochs=0", "--epochs: it is '0'; give a whole number of 1 to"),
        ("--batch=1.5", "--batch: it is '1.5'; give a whole number of 2 to"),
        ("--learning_rate=-1", "--learning_rate: it is '-1'; give a number above 0 to 100"),
        ("--learning_rate=nan", "--learning_rate: it is 'nan'"),
        ("--weight_decay=inf", "--weight_decay: it is 'inf'; give a number of 0 to 1"),
        ("--statistics_batches=0", "--statistics_batches: it is '0'"),
        ("--seed=-1", "--seed: it is '-1'"),
    ],
)
def test_a_number_out_of_its_range_is_one_sentence(labelled, capsys, flag, said):
    with pytest.raises(SystemExit) as stopped:
        labelled(flag)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_places_that_cannot_be_written_are_told_before_the_training(labelled, tmp_path):
    for out, said in (
        (tmp_path, "a folder; give the name of a file"),
        ("", "a folder"),
        (tmp_path / "a" / "b", "make it first"),
    ):
        with pytest.raises(InputError, match=said):
            labelled(out=out)


def test_labels_that_a_network_does_not_have_are_told(labelled, tmp_path):
    pixels = np.zeros((4, 32, 32, 3), np.uint8)
    np.savez(tmp_path / "wrong.npz", images=pixels, labels=np.array([0, 1, 2, 10]))
    np.savez(tmp_path / "none.npz", images=pixels)
    np.savez(tmp_path / "few.npz", images=pixels[:3], labels=np.array([0, 1, 2]))
    for name, said in (
        ("wrong", "labels are 0 to 10, but the network has 10 classes"),
        ("none", "have no labels"),
        ("few", "3 images, fewer than a batch of 4"),
    ):
        with pytest.raises(InputError, match=said):
            labelled(train=tmp_path / f"{name}.npz")


def test_bad_input_and_ctrl_c_end_in_one_sentence_and_their_exit_codes(capsys):
    def refused():
        raise InputError("--out is wrong.")

    def stopped():
        raise KeyboardInterrupt

    assert [finish(main, "training.target") for main in (refused, stopped, lambda: None)] == [2, 130, 0]
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "training.target: --out is wrong."
    assert said[1].startswith("training.target: stopped by Ctrl-C")
