"""Real images: for evaluation, for the oracle and for training a target, never for an attack."""

import functools
import io
import os
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dci_jax.data import archives, prepared
from dci_jax.data.labels import look_up, read_labels
from dci_jax.errors import InputError, reason

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")


@dataclass(frozen=True)
class Images:
    """Real images, all of one size.

    Attributes:
      names: one for each image.
      pixels: uint8 [N, H, W, C], C 3 or, grey, 1.
      labels: int32 [N], at least 0, or None. From the file or set, or the place of an image's folder
        among the folders in alphabetical order, or from a file of labels.
      skipped: "name: reason" of files that could not be read.
    """

    names: tuple[str, ...]
    pixels: np.ndarray
    labels: np.ndarray | None = None
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def take(self, indices) -> "Images":
        """The images at these indices, in this order."""
        labels = None if self.labels is None else self.labels[indices]
        return Images(tuple(self.names[i] for i in indices), self.pixels[indices], labels, self.skipped)


def load(
    path: str | Path,
    shape: tuple[int, int, int],
    count: int = 0,
    flag: str = "data.images",
    crop: float = 1.0,
    labels: str | Path = "",
) -> Images:
    """Images of a folder (searched recursively), a zip of image files, an .npz file, or a tfds set.

    Pictures may have any size and mode; they are turned upright, what is transparent is laid on white, and `fit` makes
    them H x W. Damaged ones are skipped, files of other kinds are counted by their suffix. An .npz holds `images`, uint8
    [N, H, W, 3] or [N, H, W], taken as they are if they have that size, and perhaps `labels` [N].
    "tfds:NAME" or "tfds:NAME:SPLIT" is a set that tensorflow-datasets has prepared on this machine,
    read without TensorFlow; the split is "test" where there is one ("validation" for imagenet2012,
    whose test split has no labels), or else "validation". Its images are called "NAME/SPLIT[3]".

    Args:
      path: where they are.
      shape: (H, W, C) of an image that the network takes; of one channel they are grey.
      count: read the first so many only; 0 reads all. Folders (classes) take turns.
      flag: named in error messages.
      crop: the side of the centred square, as a share of the picture's shorter side, in (0, 1].
      labels: a CSV file of lines `image,label` under that header, which replaces the labels that
        come with the images. `image` is an image's name, the name of its file, or that of the
        folder that it lies in; the first of these that the file has counts.

    Raises:
      InputError: nothing there, or nothing that can be read; or `labels` lacks an image.
    """
    if not 0 < crop <= 1:
        raise InputError(f"crop is {crop}; give a share above 0, at most 1 for the whole square.")
    table = read_labels(Path(labels)) if labels else None
    if str(path).startswith("tfds:"):
        images, found = _collect(prepared.records(str(path), flag), path, shape, count, flag, crop)
        if None not in found:
            images = replace(images, labels=np.array(found, np.int32))
    elif not os.path.exists(path):
        raise InputError(f"No images at {path}; check the path in {flag}.")
    elif Path(path).suffix == ".npz":
        images = _load_npz(Path(path), shape, count, flag, crop)
    else:
        unread = []
        images, found = _collect(_files(Path(path), flag, unread), path, shape, count, flag, crop)
        images = replace(images, skipped=images.skipped + tuple(unread))
        classes = sorted(set(found))
        if len(classes) > 1:
            found = np.array([classes.index(folder) for folder in found], np.int32)
            images = replace(images, labels=found)
    if table is None:
        return images
    return replace(images, labels=look_up(table, images.names, labels))


def fit(image: Image.Image, shape: tuple[int, int, int], crop: float = 1.0) -> np.ndarray:
    """The centre of a picture, of the shape's proportions, scaled to uint8 [H, W, C] in one step.

    Of a square equals scaling the shorter side to round(H / crop) and cutting out the centre: a picture whose
    shorter side has that many pixels already is only cut.

    Args:
      image: of any size and mode.
      shape: (H, W, C); C 1 is grey.
      crop: the cut's side as a share of the largest that the picture has, in (0, 1].
    """
    (height, width, channels), image = shape, image.convert("RGB")
    # The largest centred rectangle of these proportions.
    tall = image.height * width <= image.width * height
    whole = (image.height * width // height, image.height) if tall else (image.width, image.width * height // width)
    scaled = round(width / crop), round(height / crop)
    left, top = ((all_ - part) // 2 for all_, part in zip(image.size, whole, strict=True))
    if whole == scaled:
        left, top = left + (whole[0] - width) // 2, top + (whole[1] - height) // 2
        image = image.crop((left, top, left + width, top + height))
    else:
        inset = [part * (1 - side / of) / 2 for part, side, of in zip(whole, (width, height), scaled, strict=True)]
        box = (left + inset[0], top + inset[1], left + whole[0] - inset[0], top + whole[1] - inset[1])
        image = image.resize((width, height), Image.Resampling.BICUBIC, box)
    return np.asarray(image) if channels == 3 else np.asarray(image.convert("L"))[..., None]


def _collect(
    pictures: Iterator[tuple], path: str | Path, shape: tuple[int, int, int], count: int, flag: str, crop: float
) -> tuple[Images, list]:
    """The pictures that can be read, without labels, and what each one came with."""
    names, pixels, found, skipped = [], [], [], []
    for name, content, label in pictures:
        try:
            picture = _upright(content() if callable(content) else content)
        except UnidentifiedImageError:
            skipped.append(f"{name}: no image that Pillow can read")
            continue
        except Exception as error:  # decoders answer damage with errors of every kind
            skipped.append(f"{name}: {reason(error)}")
            continue
        names.append(name)
        pixels.append(fit(picture, shape, crop))
        found.append(label)
        if count and len(names) == count:
            break
    if not names:
        raise InputError(
            f"{path} holds no image that can be read ({len(skipped)} damaged); "
            f"give a folder, zip or npz of images, or tfds:NAME, in {flag}."
        )
    return Images(tuple(names), np.stack(pixels), None, tuple(skipped)), found


def _in_turn(names: Iterable[str]) -> list[str]:
    """Image files' names: the first of each folder, then the second of each, and so on."""
    places, counts = [], Counter()
    for name in sorted(names):
        if name.lower().endswith(SUFFIXES):
            folder = str(Path(name).parent)
            places.append((counts[folder], folder, name))
            counts[folder] += 1
    return [name for *_, name in sorted(places)]


def _upright(content: bytes | None) -> Image.Image:
    """A picture in RGB, turned as its EXIF orientation says."""
    with Image.open(io.BytesIO(content)) as image:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits of grey; convert() would cut off all above 255
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, whose range is not known")
    if image.has_transparency_data:  # what is transparent has colours of its own, which nobody sees
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _files(path: Path, flag: str, unread: list[str]) -> Iterator[tuple[str, bytes, str]]:
    """(name, a function that reads it, folder) of each image file; the folders take turns. Counts the others in `unread`."""
    if os.path.isdir(path):
        files = [str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()]
        unread += _others(files)
        for name in _in_turn(files):
            yield name, (path / name).read_bytes, str(Path(name).parent)
    elif path.suffix == ".zip" and os.path.isfile(path):  # opening a pipe would wait for ever
        try:
            with zipfile.ZipFile(path) as archive:
                unread += _others(name for name in archive.namelist() if not name.endswith("/"))
                for name in _in_turn(archive.namelist()):
                    yield name, functools.partial(archives.member, archive, name), str(Path(name).parent)
        except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is damaged or no zip file ({reason(error)}); fetch it again.") from error
    else:
        raise InputError(f"{path} is no folder, .zip or .npz; give one of these, or tfds:NAME, in {flag}.")


def _others(names: Iterable[str]) -> list[str]:
    """How many files there are of each suffix that is not read, as a sentence each; of hidden files none."""
    other = [Path(name) for name in names if not name.lower().endswith(SUFFIXES)]
    counts = Counter(name.suffix.lower() or "no suffix" for name in other if not name.name.startswith("."))
    return [
        f"{count} of {suffix}: no image file that is read ({', '.join(SUFFIXES)})"
        for suffix, count in sorted(counts.items())
    ]


def _load_npz(path: Path, shape: tuple[int, int, int], count: int, flag: str, crop: float) -> Images:
    content = archives.arrays(path, ("images", "labels"), "make it again")
    if "images" not in content:
        raise InputError(f"{path} has no array 'images' but {archives.names(path)}; name it 'images'.")
    pixels = content["images"][: count or None]
    labels = content["labels"][: count or None] if "labels" in content else None
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        raise InputError(
            f"{path}: 'images' is {list(pixels.shape)}, one image in colour or many grey ones that are 3 pixels wide; "
            "give it four axes, [N, H, W, 3]."
        )
    if pixels.ndim == 3:
        pixels = np.repeat(pixels[..., None], 3, axis=3)
    elif pixels.ndim == 4 and pixels.shape[3] == 1:
        pixels = np.repeat(pixels, 3, axis=3)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3 or 0 in pixels.shape:
        raise InputError(
            f"{path}: 'images' is {pixels.dtype} {list(pixels.shape)}; {flag} takes uint8 "
            "[N, H, W, 3] or [N, H, W], at least one image of at least one pixel."
        )
    if pixels.shape[1:] != shape:
        pixels = np.stack([fit(Image.fromarray(p), shape, crop) for p in pixels])
    names = tuple(f"{path.stem}[{i}]" for i in range(len(pixels)))
    if labels is not None:
        whole = np.issubdtype(labels.dtype, np.integer) and labels.shape == (len(pixels),)
        if not whole or not 0 <= labels.min() <= labels.max() < 2**31:
            raise InputError(
                f"{path}: 'labels' is {labels.dtype} {list(labels.shape)} for {len(pixels)} images; give one whole number "
                "of at least 0 for each."
            )
        labels = labels.astype(np.int32)
    return Images(names, pixels, labels)


def photographs(shape: tuple[int, int, int], tiles: int = 4) -> Images:
    """Four photographs that come inside scikit-image, each cut into `tiles` x `tiles` images [H, W, C].

    A tile is called "astronaut r0c2" by its row and column, and is an image like any other; the
    report puts the tiles of a photograph together again.
    """
    import skimage.data

    names, pixels, (height, width, channels) = [], [], shape
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        picture = fit(Image.fromarray(getattr(skimage.data, name)()), (height * tiles, width * tiles, channels))
        for row in range(tiles):
            for column in range(tiles):
                names.append(f"{name} r{row}c{column}")
                pixels.append(picture[row * height :][:height, column * width :][:, :width])
    return Images(tuple(names), np.stack(pixels))


def without(images: Images, others: Images) -> Images:
    """The images that are not, pixel for pixel, among the others."""
    seen = {pixels.tobytes() for pixels in others.pixels}
    return images.take([i for i, p in enumerate(images.pixels) if p.tobytes() not in seen])
