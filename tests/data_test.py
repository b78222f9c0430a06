import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from dci_jax import data
from dci_jax.errors import InputError


def picture(mode="RGB", size=(50, 40), color=(255, 0, 0)):
    return Image.new(mode, size, color if mode == "RGB" else 100)


@pytest.fixture
def folder(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
    picture().save(tmp_path / "cat" / "a.png")
    picture("L", (20, 90)).save(tmp_path / "dog" / "b.jpg")
    (tmp_path / "dog" / "broken.png").write_bytes(b"\x89PNG not really")
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_a_folder_of_any_sizes_grey_or_colour_with_a_damaged_file_named(folder):
    images = data.load(folder, 32)
    assert images.names == ("cat/a.png", "dog/b.jpg")
    assert images.pixels.shape == (2, 32, 32, 3)
    assert images.pixels.dtype == np.uint8
    assert tuple(images.pixels[0, 0, 0]) == (255, 0, 0)
    assert len(set(images.pixels[1, 5, 5])) == 1
    assert list(images.labels) == [0, 1]
    assert len(images.skipped) == 1
    assert images.skipped[0].startswith("dog/broken.png")


def test_a_zip_gives_the_same_as_the_folder(folder, tmp_path):
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.rglob("*.[pj]*g"):
            archive.write(file, str(file.relative_to(folder)))
    a, b = data.load(folder, 16), data.load(path, 16)
    np.testing.assert_array_equal(a.pixels, b.pixels)
    assert (a.names, a.skipped) == (b.names, b.skipped)


def test_fit_takes_the_centred_square():
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 32:64] = 200
    np.testing.assert_array_equal(data.fit(Image.fromarray(wide), 32), np.full((32, 32, 3), 200))


def test_npz_with_and_without_labels_grey_and_of_another_size(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, images=np.full((3, 32, 32, 3), 7, np.uint8), labels=np.array([2, 0, 1]))
    images = data.load(path, 32, count=2)
    assert images.names == ("x[0]", "x[1]")
    assert list(images.labels) == [2, 0]
    np.savez(path, images=np.full((1, 64, 48), 7, np.uint8))
    images = data.load(path, 32)
    np.testing.assert_array_equal(images.pixels, np.full((1, 32, 32, 3), 7))
    assert images.labels is None


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"pictures": np.zeros((1, 8, 8, 3), np.uint8)}, r"no array 'images' but \['pictures'\]"),
        ({"images": np.zeros((1, 8, 8, 3), np.float32)}, "float32"),
        ({"images": np.zeros((0, 8, 8, 3), np.uint8)}, "at least one"),
        ({"images": np.zeros((1, 8, 8, 5), np.uint8)}, r"\[1, 8, 8, 5\]"),
        ({"images": np.array([{}])}, "damaged"),
    ],
)
def test_an_npz_of_another_kind_says_what_it_is(tmp_path, content, named):
    np.savez(tmp_path / "x.npz", **content)
    with pytest.raises(InputError, match=named):
        data.load(tmp_path / "x.npz", 8)


def test_missing_empty_damaged_and_unknown_paths(tmp_path):
    with pytest.raises(InputError, match=r"check the path in --config\.data\.images"):
        data.load(tmp_path / "absent", 8)
    with pytest.raises(InputError, match="no image that can be read"):
        data.load(tmp_path, 8)
    (tmp_path / "x.zip").write_bytes(b"PK not a zip")
    with pytest.raises(InputError, match="damaged or no zip"):
        data.load(tmp_path / "x.zip", 8)
    stream = io.BytesIO()
    np.savez(stream, images=np.zeros((4, 8, 8, 3), np.uint8))
    (tmp_path / "y.npz").write_bytes(stream.getvalue()[:300])
    with pytest.raises(InputError, match="damaged or no npz"):
        data.load(tmp_path / "y.npz", 8)
    (tmp_path / "z.tar").touch()
    with pytest.raises(InputError, match=r"no folder, \.zip or \.npz"):
        data.load(tmp_path / "z.tar", 8)


def test_photographs_are_cut_into_named_tiles():
    images = data.photographs(32)
    assert len(images) == 64
    assert images.names[1] == "astronaut r0c1"
    assert images.pixels.shape == (64, 32, 32, 3)


def test_without_leaves_out_equal_pixels():
    pixels = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    images = data.Images(("a", "b", "c"), pixels)
    left = data.without(images, images.take([1]))
    assert left.names == ("a", "c")
