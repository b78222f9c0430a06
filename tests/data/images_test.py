import io
import warnings
import zipfile

import numpy as np
import pytest
from PIL import Image

from dci_jax.data import images as data
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
    images = data.load(folder, (32, 32, 3))
    assert images.names == ("cat/a.png", "dog/b.jpg")
    assert images.pixels.shape == (2, 32, 32, 3)
    assert images.pixels.dtype == np.uint8
    assert tuple(images.pixels[0, 0, 0]) == (255, 0, 0)
    assert len(set(images.pixels[1, 5, 5])) == 1
    assert list(images.labels) == [0, 1]
    assert images.skipped[0].startswith("dog/broken.png")
    assert [text.partition(":")[0] for text in images.skipped[1:]] == ["1 of .txt"]


def test_a_zip_gives_the_same_as_the_folder(folder, tmp_path):
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.rglob("*.[pj]*g"):
            archive.write(file, str(file.relative_to(folder)))
    a, b = data.load(folder, (16, 16, 3)), data.load(path, (16, 16, 3))
    np.testing.assert_array_equal(a.pixels, b.pixels)
    assert (a.names, a.skipped[:1]) == (b.names, b.skipped)


def test_fit_takes_the_centred_square():
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 32:64] = 200
    np.testing.assert_array_equal(data.fit(Image.fromarray(wide), (32, 32, 3)), np.full((32, 32, 3), 200))


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_crop_cuts_a_picture_of_the_scaled_size_without_resampling(tmp_path):
    pixels = noise(256, 256)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    images = data.load(tmp_path, (224, 224, 3), crop=0.875)
    np.testing.assert_array_equal(images.pixels[0], pixels[16:240, 16:240])
    wide = noise(256, 301)  # its centred square starts at column 22
    np.testing.assert_array_equal(data.fit(Image.fromarray(wide), (224, 224, 3), 0.875), wide[16:240, 38 : 38 + 224])
    odd = noise(37, 37)  # round(32 / .875) = 37
    np.testing.assert_array_equal(data.fit(Image.fromarray(odd), (32, 32, 3), 0.875), odd[2:34, 2:34])


@pytest.mark.parametrize("shape", [(512, 512), (384, 640), (100, 90)])
def test_crop_equals_scaling_the_shorter_side_and_cutting_the_centre(shape):
    smooth = Image.fromarray(noise(8, 8)).resize(shape[::-1], Image.Resampling.BICUBIC)
    square = smooth.crop(
        (
            (smooth.width - min(shape)) // 2,
            (smooth.height - min(shape)) // 2,
            (smooth.width - min(shape)) // 2 + min(shape),
            (smooth.height - min(shape)) // 2 + min(shape),
        )
    )
    expected = square.resize((256, 256), Image.Resampling.BICUBIC).crop((16, 16, 240, 240))
    found = data.fit(smooth, (224, 224, 3), 0.875)
    assert found.shape == (224, 224, 3)
    assert np.abs(found.astype(int) - np.asarray(expected)).max() <= 2


@pytest.mark.parametrize("shape", [(50, 41), (41, 50), (32, 33), (20, 20)])
def test_without_crop_the_whole_centred_square_is_scaled(shape):
    image, side = Image.fromarray(noise(*shape)), min(shape)
    left, top = (shape[1] - side) // 2, (shape[0] - side) // 2
    box = (left, top, left + side, top + side)
    expected = image.resize((32, 32), Image.Resampling.BICUBIC, box)
    np.testing.assert_array_equal(data.fit(image, (32, 32, 3)), np.asarray(expected))


@pytest.mark.parametrize("crop", [0.0, -1.0, 1.1, 87.5, float("nan")])
def test_a_crop_that_is_no_share(tmp_path, crop):
    with pytest.raises(InputError, match="give a share above 0"):
        data.load(tmp_path, (8, 8, 3), crop=crop)


def test_crop_leaves_an_npz_of_the_right_size_alone_and_cuts_others(tmp_path):
    right, larger = noise(32, 32)[None], noise(37, 37)[None]
    np.savez(tmp_path / "right.npz", images=right)
    np.savez(tmp_path / "larger.npz", images=larger)
    images = data.load(tmp_path / "right.npz", (32, 32, 3), crop=0.875)
    np.testing.assert_array_equal(images.pixels, right)
    images = data.load(tmp_path / "larger.npz", (32, 32, 3), crop=0.875)
    np.testing.assert_array_equal(images.pixels, larger[:, 2:34, 2:34])


def save(folder, name, image, **options):
    """Load what Pillow reads back from this one picture: uint8 [size, size, 3], all warnings errors."""
    folder.mkdir(exist_ok=True)
    image.save(folder / name, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (pixels,) = data.load(folder, (*(2 * (min(image.size),)), 3), crop=options.get("crop", 1.0)).pixels
    return pixels


def test_pictures_of_odd_kinds(tmp_path):
    cmyk = save(tmp_path / "cmyk", "a.jpg", Image.new("CMYK", (16, 16), (0, 255, 255, 0)))
    assert np.abs(cmyk[8, 8].astype(int) - [255, 0, 0]).max() < 3
    grey = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    for name in ("a.png", "a.tif"):
        deep = save(tmp_path / f"deep {name}", name, Image.fromarray(grey))
        np.testing.assert_array_equal(deep, np.repeat((grey // 256)[..., None], 3, 2))
    deep = save(tmp_path / "deeper", "a.tif", Image.fromarray(grey.astype(np.int32)))
    np.testing.assert_array_equal(deep[..., 0], grey // 256)
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([9, 9, 9, 40, 50, 60])
    for kind, transparency in (("all", bytes([255, 100])), ("one", 1)):
        clear = save(tmp_path / kind, "a.png", palette, transparency=transparency)
        seen = 100 / 255 if kind == "all" else 0.0  # the rest of it is the white behind
        assert np.abs(clear - (255 + seen * (np.array([40, 50, 60]) - 255.0))).max() <= 1
    clear = save(tmp_path / "rgba", "a.png", Image.new("RGBA", (8, 8), (40, 50, 60, 0)))
    assert (clear == 255).all()
    black_white = save(tmp_path / "1", "a.png", Image.new("1", (8, 8), 1))
    assert (black_white == 255).all()


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_a_picture_lying_on_its_side_is_turned_upright(tmp_path, name):
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8] = 255  # white above
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: white to the right
    found = save(tmp_path / "x", name, Image.fromarray(pixels), exif=exif)
    assert found[:, 10:].min() > 250
    assert found[:, :6].max() < 5


@pytest.mark.parametrize("shape", [(1, 4000), (4000, 1), (1, 1), (3, 7)])
@pytest.mark.parametrize("crop", [1.0, 0.875])
def test_pictures_of_extreme_shape_or_smaller_than_the_size(tmp_path, shape, crop):
    Image.new("RGB", shape, (10, 20, 30)).save(tmp_path / "a.png")
    (pixels,) = data.load(tmp_path, (64, 64, 3), crop=crop).pixels
    assert pixels.shape == (64, 64, 3)
    assert (pixels == [10, 20, 30]).all()


def test_a_picture_that_would_fill_the_memory_is_skipped(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    picture(size=(20, 20)).save(tmp_path / "a.png")
    picture(size=(200, 200)).save(tmp_path / "b.png")
    images = data.load(tmp_path, (8, 8, 3))
    assert images.names == ("a.png",)
    (skipped,) = images.skipped
    assert skipped.startswith("b.png: Image size (40000 pixels) exceeds limit")


def test_a_picture_cut_short_and_a_folder_called_like_a_picture(tmp_path):
    Image.fromarray(noise(64, 64)).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "c.jpg").mkdir()
    images = data.load(tmp_path, (8, 8, 3))
    assert images.names == ("a.jpg",)
    assert [text.partition(":")[0] for text in images.skipped] == ["b.jpg"]


def test_one_image_in_an_npz_is_not_taken_for_many_grey_ones(tmp_path):
    np.savez(tmp_path / "x.npz", images=np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(InputError, match=r"\[32, 32, 3\], one image in colour or many grey"):
        data.load(tmp_path / "x.npz", (32, 32, 3))


def test_a_tif_of_floating_point_is_skipped_with_its_reason(folder):
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(folder / "cat" / "deep.tif")
    skipped = data.load(folder, (8, 8, 3)).skipped
    assert any("deep.tif: its pixels are floating-point" in reason for reason in skipped)


def test_npz_with_and_without_labels_grey_and_of_another_size(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, images=np.full((3, 32, 32, 3), 7, np.uint8), labels=np.array([2, 0, 1]))
    images = data.load(path, (32, 32, 3), count=2)
    assert images.names == ("x[0]", "x[1]")
    assert list(images.labels) == [2, 0]
    np.savez(path, images=np.full((1, 64, 48), 7, np.uint8))
    images = data.load(path, (32, 32, 3))
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
        data.load(tmp_path / "x.npz", (8, 8, 3))


def test_missing_empty_damaged_and_unknown_paths(tmp_path):
    with pytest.raises(InputError, match=r"check the path in data\.images"):
        data.load(tmp_path / "absent", (8, 8, 3))
    with pytest.raises(InputError, match="no image that can be read"):
        data.load(tmp_path, (8, 8, 3))
    (tmp_path / "x.zip").write_bytes(b"PK not a zip")
    with pytest.raises(InputError, match="damaged or no zip"):
        data.load(tmp_path / "x.zip", (8, 8, 3))
    stream = io.BytesIO()
    np.savez(stream, images=np.zeros((4, 8, 8, 3), np.uint8))
    (tmp_path / "y.npz").write_bytes(stream.getvalue()[:300])
    with pytest.raises(InputError, match="damaged or no npz"):
        data.load(tmp_path / "y.npz", (8, 8, 3))
    (tmp_path / "z.tar").touch()
    with pytest.raises(InputError, match=r"no folder, \.zip or \.npz"):
        data.load(tmp_path / "z.tar", (8, 8, 3))


def test_photographs_are_cut_into_named_tiles():
    images = data.photographs((32, 32, 3))
    assert len(images) == 64
    assert images.names[1] == "astronaut r0c1"
    assert images.pixels.shape == (64, 32, 32, 3)


def test_without_leaves_out_equal_pixels():
    pixels = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    images = data.Images(("a", "b", "c"), pixels)
    left = data.without(images, images.take([1]))
    assert left.names == ("a", "c")


def test_folders_take_turns_so_that_the_first_images_are_of_all_classes(tmp_path):
    for folder, count in (("cat", 3), ("dog", 1), ("emu", 2)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            picture().save(tmp_path / folder / f"{number}.png")
    images = data.load(tmp_path, (8, 8, 3), count=4)
    assert images.names == ("cat/0.png", "dog/0.png", "emu/0.png", "cat/1.png")
    assert list(images.labels) == [0, 1, 2, 0]
