import collections
import os
import pickle
import random
import zipfile

import numpy as np
import pytest

from dci_jax.checkpoints.pickles import NotWeights, load
from dci_jax.checkpoints.read import read
from dci_jax.errors import InputError


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="writes a .pth file: pip install torch")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_it_reads_what_pytorch_reads(torch, tmp_path, zipped):
    base = torch.arange(24.0).reshape(4, 6)
    content = {
        "state_dict": collections.OrderedDict(
            plain=torch.randn(3, 2, 5),
            turned=base.T,
            part=base[1:3, ::2],
            parameter=torch.nn.Parameter(torch.randn(7)),
            half=torch.randn(5).half(),
            brain=torch.randn(5).bfloat16(),
            double=torch.randn(5).double(),
            empty=torch.zeros(0, 3),
            number=torch.tensor(4),
        ),
        "epoch": 3,
        "best": [1.5, "x"],
    }
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    found, expected = load(tmp_path / "w.pth"), torch.load(tmp_path / "w.pth", weights_only=True)
    assert found["epoch"] == 3
    for name, tensor in expected["state_dict"].items():
        np.testing.assert_array_equal(found["state_dict"][name], tensor.detach().to(torch.float64).numpy(), name)


def archive(path, content, **members):
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("w/data.pkl", content if isinstance(content, bytes) else pickle.dumps(content, 2))
        for name, data in members.items():
            made.writestr(f"w/data/{name}", data)
    return path


class Runs:
    def __reduce__(self):
        return os.mkdir, ("it_ran",)


def test_nothing_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotWeights, match=r"names posix.mkdir, which is no part of a tensor"):
        load(archive(tmp_path / "w.pth", {"state_dict": Runs()}))
    assert not (tmp_path / "it_ran").exists()
    with pytest.raises(InputError, match="it names posix"):
        read(tmp_path / "w.pth")


def test_an_old_file_whose_storages_have_no_names_is_refused(tmp_path):
    parts = (0x1950A86A20F9469CFC6C, 1001, {}, {}, 7)  # magic, protocol, machine, content, names
    (tmp_path / "w.pth").write_bytes(b"".join(pickle.dumps(part, 2) for part in parts))
    with pytest.raises(NotWeights, match="no names"):
        load(tmp_path / "w.pth")


def test_a_zip_without_its_directory_says_so(tmp_path):
    path = archive(tmp_path / "w.pth", {})
    path.write_bytes(path.read_bytes().replace(b"PK\x01\x02", b"PK\x01\x03"))
    with pytest.raises(InputError, match=r"is damaged \(Bad magic number for central directory\); fetch it again"):
        read(path)


def test_a_place_in_the_memo_that_would_be_allocated_is_refused(tmp_path):
    bomb = b"\x80\x02}r" + (2**31 - 1).to_bytes(4, "little") + b"."
    with pytest.raises(NotWeights, match="malformed"):
        load(archive(tmp_path / "w.pth", bomb))


def test_a_compressed_member_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("w/data.pkl", pickle.dumps({}, 2))
        made.writestr("w/data/0", bytes(10**7))
    with pytest.raises(NotWeights, match="compressed"):
        load(tmp_path / "w.pth")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_damaged_file_is_one_sentence(torch, tmp_path, zipped):
    path, rng = tmp_path / "w.pth", random.Random(0)
    torch.save({"a.weight": torch.randn(8, 3, 3, 3), "b": torch.randn(4)}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(rng.choice((1, 4, 32))):
            damaged[rng.randrange(len(whole))] = rng.randrange(256)
        path.write_bytes(damaged[: rng.choice((len(whole), rng.randrange(len(whole))))])
        try:
            read(path)
        except InputError as error:
            refused += "\n" not in str(error)
    assert refused > 150
