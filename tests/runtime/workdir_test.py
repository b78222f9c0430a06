import fcntl
import json

import numpy as np
import pytest

from dci_jax.errors import InputError
from dci_jax.runtime import files, workdir
from dci_jax.runtime.files import read_arrays, read_json, replacing


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    file = tmp_path / "new" / "x.txt"
    with replacing(file) as stream:
        stream.write("old")
    with pytest.raises(KeyboardInterrupt), replacing(file) as stream:
        stream.write("half")
        raise KeyboardInterrupt
    assert file.read_text() == "old"


def test_differences_are_named_with_their_section():
    old = {"a": 1, "b": {"c": 2, "d": 3}}
    assert files.differences(old, {"a": 1, "b": {"c": 5}, "e": 0}) == ["b.c", "b.d", "e"]


def test_a_workdir_belongs_to_one_config(tmp_path):
    config = {"dci_trained": {"cycle": 1.0}}
    workdir.claim(tmp_path, config, "the command", {})
    workdir.claim(tmp_path, config, "the command", {})
    config["dci_trained"]["cycle"] = 0.0
    with pytest.raises(InputError, match=r"differs in dci_trained\.cycle"):
        workdir.claim(tmp_path, config, "the command", {})
    assert json.loads((tmp_path / "config.json").read_text())["dci_trained"]["cycle"] == 1.0


def test_other_weights_under_the_same_path_are_another_run(tmp_path):
    workdir.claim(tmp_path, {}, "the command", {"target.weights": "a", "data.labels": "b"})
    workdir.claim(tmp_path, {}, "the command", {"target.weights": "a", "data.labels": "b"})
    with pytest.raises(InputError, match=r"another content of target\.weights under the same name"):
        workdir.claim(tmp_path, {}, "the command", {"target.weights": "c", "data.labels": "b"})
    assert json.loads((tmp_path / "depends.json").read_text())["target.weights"] == "a"


def test_two_runs_in_one_workdir_are_kept_apart(tmp_path):
    with (tmp_path / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="Another run is at work"):
            workdir.claim(tmp_path, {}, "the command", {})
        assert not (tmp_path / "config.json").exists()
    workdir.claim(tmp_path, {}, "the command", {})


def test_other_images_in_the_same_workdir_are_refused(tmp_path):
    file = tmp_path / "w" / "evaluation" / "originals.npz"
    for _ in range(2):
        workdir.keep_originals(file, np.zeros((1, 4, 4, 3), np.uint8), ("a",), ())
    with pytest.raises(InputError, match="not those that"):
        workdir.keep_originals(file, np.ones((1, 4, 4, 3), np.uint8), ("a",), ())


def test_timing_adds_up_over_resumed_runs(tmp_path):
    for _ in range(2):
        with workdir.timing(tmp_path, "attack"):
            pass
    (tmp_path / "timing.json").write_text('{"attack": {"wall_s": 5, "compile_s": 1, "device_s": 5}}')
    with workdir.timing(tmp_path, "attack"):
        pass
    assert json.loads((tmp_path / "timing.json").read_text())["attack"]["wall_s"] >= 5


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "foreign"])
def test_damaged_arrays_are_told_with_their_cure(tmp_path, damage):
    file = tmp_path / "x.npz"
    np.savez(file, a=np.arange(1000), b=np.ones(3))
    whole = file.read_bytes()
    np.testing.assert_array_equal(read_arrays(file)["a"], np.arange(1000))
    changed = bytearray(whole)
    changed[300] ^= 4  # inside the array, where the archive's checksum is all that knows
    file.write_bytes({"cut": whole[:-50], "flipped": bytes(changed), "emptied": b"", "foreign": b"hello" * 99}[damage])
    with pytest.raises(InputError, match=r"x\.npz is damaged \(.*\); delete it and give the same line, which makes it"):
        read_arrays(file)


def test_a_file_that_is_not_there_is_no_damaged_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "x.npz")
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize("text", ["", "[1]", '{"a": 1', "\xff\x00"])
def test_damaged_json_is_told(tmp_path, text):
    (tmp_path / "x.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"x\.json is damaged"):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize("name", ["config.json", "depends.json", "timing.json"])
def test_damaged_files_of_a_workdir_are_told_before_any_work(tmp_path, name):
    workdir.claim(tmp_path, {"a": 1}, "the command", {"target.weights": "a"})
    with workdir.timing(tmp_path, "report"):
        pass
    workdir.claim(tmp_path, {"a": 1}, "the command", {"target.weights": "a"})
    text = (tmp_path / name).read_text()
    (tmp_path / name).write_text(text[:-3])
    with pytest.raises(InputError, match=f"{name} is damaged"):
        workdir.claim(tmp_path, {"a": 1}, "the command", {"target.weights": "a"})


def test_seconds_that_are_none_are_told_before_any_work(tmp_path):
    (tmp_path / "timing.json").write_text('{"report": {"wall_s": "x"}}')
    with pytest.raises(InputError, match=r"timing\.json is damaged \(it holds other things than seconds\)"):
        workdir.claim(tmp_path, {}, "the command", {})
