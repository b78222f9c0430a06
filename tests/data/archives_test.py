"""Archives that an enemy made: bombs, damage, passwords, false claims. One sentence, or the member is skipped with its reason."""

import io
import resource
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image

from dci_jax.data import archives
from dci_jax.data import images as data
from dci_jax.errors import InputError


def png():
    stream = io.BytesIO()
    Image.new("RGB", (9, 9), (10, 20, 30)).save(stream, "png")
    return stream.getvalue()


def zipped(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("good.png", png())
        for name, content in members.items():
            archive.writestr(f"{name}.png", content)
    return path


def header(shape, descr="|u1"):
    """An array's header that claims a shape, and one byte."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue() + b"\0"


def npz(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def test_a_member_that_would_fill_the_memory_is_skipped(tmp_path):
    path = zipped(tmp_path / "bomb.zip", big=bytes(archives.MEMBER + 1))
    assert path.stat().st_size < 2_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    images = data.load(path, (9, 9, 3))
    assert images.names == ("good.png",)
    assert images.skipped == ("big.png: 256 MiB, where a picture may have 256",)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_a_member_that_is_larger_than_it_says_or_damaged_is_skipped(tmp_path):
    path = zipped(tmp_path / "x.zip", bad=png() * 50)
    whole = bytearray(path.read_bytes())
    at = whole.index(b"bad.png") + len("bad.png") + 8
    whole[at : at + 4] = bytes(4)
    path.write_bytes(whole)
    images = data.load(path, (9, 9, 3))
    assert images.names == ("good.png",)
    assert images.skipped[0].startswith("bad.png: damaged in the archive (")


@pytest.mark.parametrize(("field", "value", "reason"), [("flag", 1, "encrypted"), ("method", 9, "compression")])
def test_a_member_with_a_password_or_a_rare_compression_is_skipped(tmp_path, field, value, reason):
    path = zipped(tmp_path / "x.zip", odd=b"x" * 100)
    whole = bytearray(path.read_bytes())
    local, central = whole.rindex(b"PK\x03\x04"), whole.rindex(b"PK\x01\x02")
    offset = {"flag": 0, "method": 2}[field]
    for at in (local + 6 + offset, central + 8 + offset):
        whole[at : at + 2] = struct.pack("<H", value)
    path.write_bytes(whole)
    images = data.load(path, (9, 9, 3))
    assert images.names == ("good.png",)
    assert reason in images.skipped[0]


def test_names_that_lead_out_of_the_archive_are_only_names(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    with zipfile.ZipFile(inner / "x.zip", "w") as archive:
        archive.writestr("../../out.png", png())
    assert data.load(inner / "x.zip", (9, 9, 3)).names == ("../../out.png",)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["inner", "x.zip"]


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"images": header((10**12, 224, 224, 3))}, "claims 150528000000000000 bytes, and the file has"),
        ({"images": header((3, 8, 8, 3), "|O")}, "holds Python objects"),
        ({"images": b"\x93NUMPY\x01\x00\xff\xff{'descr'"}, "is damaged or no npz"),
        ({"images": b"\x93NUMPY\x01\x00\x0a\x00{'descr':(\n"}, "EOF in multi-line statement"),  # tokenize.TokenError
        ({"images": b"\x93NUMPY\x01\x00\x06\x00{}\n }\n"}, "is damaged or no npz"),
        ({"images": b""}, "is damaged or no npz"),
        ({"other": header((1,))}, r"no array 'images' but \['other'\]"),
    ],
)
def test_an_npz_is_checked_by_arithmetic_before_anything_is_allocated(tmp_path, members, said):
    with pytest.raises(InputError, match=said) as caught:
        data.load(npz(tmp_path / "x.npz", **members), (8, 8, 3))
    assert "\n" not in str(caught.value)


def test_a_zip_whose_names_are_no_text_is_damaged(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("é.png", b"")  # the flag of UTF-8 is set
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xff"))
    with pytest.raises(InputError, match=r"is damaged or no zip file .*utf-8.*; fetch it again"):
        data.load(path, (8, 8, 3))


def test_an_error_that_says_nothing_is_named(tmp_path, monkeypatch):
    def silent(stream):
        raise ValueError

    monkeypatch.setattr(archives.np.lib.format, "read_magic", silent)
    with pytest.raises(InputError, match=r"is damaged or no npz file \(ValueError\); make it again"):
        data.load(npz(tmp_path / "x.npz", images=header((1,))), 8)


def test_an_array_larger_than_the_memory_allows_is_refused(tmp_path, monkeypatch):
    np.savez(tmp_path / "x.npz", images=np.zeros((100, 8, 8, 3), np.uint8))
    monkeypatch.setattr(archives.distributed, "memory", lambda: 10_000)
    with pytest.raises(InputError, match=r"is \[100, 8, 8, 3\], 0.0 GiB, and this machine has 0.0; give fewer"):
        data.load(tmp_path / "x.npz", (8, 8, 3))
