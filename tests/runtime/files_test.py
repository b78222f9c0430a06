"""Folders of a run are made inside its workdir, which itself is not made again."""

import shutil

import pytest

from dci_jax.runtime import files


@pytest.fixture
def workdir(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_homes", set())
    folder = tmp_path / "run"
    folder.mkdir()
    files.claimed(folder)
    return folder


def test_folders_are_made_in_a_workdir_that_is_there(workdir):
    with files.replacing(workdir / "attacks" / "dci" / "stem" / "000" / "0.npz", "wb") as stream:
        stream.write(b"map")
    assert (workdir / "attacks" / "dci" / "stem" / "000" / "0.npz").read_bytes() == b"map"


@pytest.mark.parametrize("inside", [("results.jsonl",), ("attacks", "dci", "stem", "000", "0.npz")])
def test_nothing_is_made_where_a_workdir_has_vanished(workdir, inside):
    shutil.rmtree(workdir)
    with pytest.raises(FileNotFoundError), files.replacing(workdir.joinpath(*inside)) as stream:
        stream.write("late")
    assert not workdir.exists()


def test_elsewhere_folders_are_made(workdir, tmp_path):
    assert files.made(tmp_path / "other" / "report").is_dir()
