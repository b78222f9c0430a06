import zipfile

import numpy as np
import pytest
from PIL import Image

from dci_jax.data import images as data
from dci_jax.errors import InputError


def picture():
    return Image.new("RGB", (50, 40), (255, 0, 0))


def test_labels_by_name_by_file_and_by_folder(tmp_path):
    folder = tmp_path / "val"
    for name in ("n01/a.png", "n01/b.png", "n02/a.png", "n02/c.png", "d.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture().save(folder / name)
    labels = tmp_path / "labels.csv"
    labels.write_text('\ufeffimage,label\nn01/a.png,1\na.png,2\nn01,3\n\n"n02",04\nd.png,999\n')
    images = data.load(folder, (8, 8, 3), labels=labels)
    assert images.names == ("d.png", "n01/a.png", "n02/a.png", "n01/b.png", "n02/c.png")
    assert list(images.labels) == [999, 1, 2, 3, 4]
    assert images.labels.dtype == np.int32
    assert list(data.load(folder, (8, 8, 3)).labels) == [0, 1, 2, 1, 2]
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.write(folder / "d.png", "deep/n02/d.jpg")
    assert list(data.load(tmp_path / "x.zip", (8, 8, 3), labels=labels).labels) == [4]
    np.savez(tmp_path / "x.npz", images=np.zeros((2, 8, 8, 3), np.uint8), labels=np.array([5, 5]))
    labels.write_text("image,label\nx[1],7\nx[0],0\n")
    assert list(data.load(tmp_path / "x.npz", (8, 8, 3), labels=labels).labels) == [0, 7]


def test_the_first_image_without_a_label_is_named(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        picture().save(tmp_path / name)
    (tmp_path / "labels.csv").write_text("image,label\na.png,1\n")
    with pytest.raises(InputError, match=r"labels\.csv has no label for b\.png; add a line"):
        data.load(tmp_path, (8, 8, 3), labels=tmp_path / "labels.csv")
    assert list(data.load(tmp_path, (8, 8, 3), count=1, labels=str(tmp_path / "labels.csv")).labels) == [1]


@pytest.mark.parametrize(
    "labels",
    [
        np.zeros(3, int),  # of two images
        np.array([0, -1]),
        np.array([0, 2**40]),
        np.array([0.0, 1.0]),
        np.array([0, np.nan]),
        np.array([False, True]),
    ],
)
def test_labels_in_an_npz_that_are_none_are_refused_not_cast(tmp_path, labels):
    np.savez(tmp_path / "x.npz", images=np.zeros((2, 8, 8, 3), np.uint8), labels=labels)
    with pytest.raises(InputError, match=r"'labels' is .* for 2 images; give one whole number"):
        data.load(tmp_path / "x.npz", (8, 8, 3))


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "line 1: not the header"),
        ("a.png,1\n", "line 1: not the header"),
        ("label,image\n1,a.png\n", "line 1: not the header"),
        ("image,label\na.png,1\nb.png\n", "line 3: 'b.png' is not"),
        ("image,label\na.png,1,2\n", "line 2: 'a.png,1,2' is not"),
        ("image,label\na.png,-1\n", "line 2: 'a.png,-1' is not"),
        ("image,label\na.png,1.0\n", "line 2: 'a.png,1.0' is not"),
        ("image,label\na.png,cat\n", "line 2: 'a.png,cat' is not"),
        ("image,label\na.png,\n", "line 2: 'a.png,' is not"),
        ("image,label\n,1\n", "line 2: ',1' is not"),
        ("image,label\na.png,99999999999\n", "line 2: 'a.png,99999999999' is not"),
        ("image,label\na.png,1\na.png,2\n", "line 3: 'a.png' has the label 1 already"),
        ('image,label\na.png,1\n"b.png,1\n', "line 3: unexpected end of data; correct that line"),
        (b"image,label\na.png,1\n\xff.png,1\n", "line 3: .* is not UTF-8"),
    ],
)
def test_a_malformed_file_of_labels_names_the_line(tmp_path, content, named):
    picture().save(tmp_path / "a.png")
    path = tmp_path / "labels.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=named) as caught:
        data.load(tmp_path, (8, 8, 3), labels=path)
    assert "\n" not in str(caught.value)


def test_a_file_of_labels_that_is_not_there_is_said_before_any_reading(tmp_path):
    with pytest.raises(InputError, match=r"absent\.csv \(No such file.*check data\.labels"):
        data.load("nowhere", (8, 8, 3), labels=tmp_path / "absent.csv")
    with pytest.raises(InputError, match=r"which is no file"):
        data.load("nowhere", (8, 8, 3), labels=tmp_path)
