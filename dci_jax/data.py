"""Real images: for evaluation, for the oracle and for training a target, never for an attack."""

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from dci_jax.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")


@dataclass(frozen=True)
class Images:
    """Real images, all of one size.

    Attributes:
      names: one for each image.
      pixels: uint8 [N, H, W, 3].
      labels: int32 [N], or None. From the file, or the place of an image's folder among the
        folders in alphabetical order.
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
        return Images(
            tuple(self.names[i] for i in indices), self.pixels[indices], labels, self.skipped
        )


def load(path: str | Path, size: int, count: int = 0, flag: str = "--config.data.images") -> Images:
    """Images of a folder (searched recursively), a zip file of image files, or an .npz file.

    Image files may have any size, grey or colour: the largest centred square is scaled to
    `size` x `size`. An .npz holds `images`, uint8 [N, H, W, 3] or [N, H, W], and perhaps `labels` [N].

    Args:
      path: where they are.
      size: side in pixels.
      count: read the first so many only; 0 reads all.
      flag: named in error messages.

    Raises:
      InputError: nothing there, or nothing that can be read.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"No images at {path}; check the path in {flag}.")
    if path.suffix == ".npz":
        return _load_npz(path, size, count, flag)
    names, pixels, skipped = [], [], []
    for name, content in _files(path, flag):
        try:
            with Image.open(io.BytesIO(content)) as image:
                pixels.append(fit(image, size))
                names.append(name)
        except UnidentifiedImageError:
            skipped.append(f"{name}: no image that Pillow can read")
        except (OSError, ValueError, SyntaxError) as error:
            skipped.append(f"{name}: {str(error).partition(chr(10))[0]}")
        if count and len(names) == count:
            break
    if not names:
        raise InputError(
            f"{path} holds no image that can be read ({len(skipped)} damaged); "
            f"give a folder, zip or npz of images in {flag}."
        )
    folders = [str(Path(name).parent) for name in names]
    classes = sorted(set(folders))
    labels = np.array([classes.index(f) for f in folders], np.int32) if len(classes) > 1 else None
    return Images(tuple(names), np.stack(pixels), labels, tuple(skipped))


def fit(image: Image.Image, size: int) -> np.ndarray:
    """The largest centred square of a picture, scaled to uint8 [size, size, 3]."""
    image = image.convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    if side == size:
        return np.asarray(image.crop(box))
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box))


def _files(path: Path, flag: str) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix.lower() in SUFFIXES:
                yield str(file.relative_to(path)), file.read_bytes()
    elif path.suffix == ".zip":
        try:
            with zipfile.ZipFile(path) as archive:
                for name in sorted(archive.namelist()):
                    if name.lower().endswith(SUFFIXES):
                        yield name, archive.read(name)
        except zipfile.BadZipFile as error:
            raise InputError(
                f"{path} is damaged or no zip file ({error}); fetch it again."
            ) from error
    else:
        raise InputError(f"{path} is no folder, .zip or .npz; give one of these in {flag}.")


def _load_npz(path: Path, size: int, count: int, flag: str) -> Images:
    try:
        with np.load(path, allow_pickle=False) as content:
            if "images" not in content:
                raise InputError(
                    f"{path} has no array 'images' but {sorted(content)}; name it 'images'."
                )
            pixels = content["images"][: count or None]
            labels = content["labels"][: count or None] if "labels" in content else None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is damaged or no npz file ({error}); make it again.") from error
    if pixels.ndim == 3:
        pixels = np.repeat(pixels[..., None], 3, axis=3)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3 or len(pixels) == 0:
        raise InputError(
            f"{path}: 'images' is {pixels.dtype} {list(pixels.shape)}; {flag} takes uint8 "
            "[N, H, W, 3] or [N, H, W], at least one."
        )
    if pixels.shape[1:3] != (size, size):
        pixels = np.stack([fit(Image.fromarray(p), size) for p in pixels])
    names = tuple(f"{path.stem}[{i}]" for i in range(len(pixels)))
    labels = None if labels is None else labels.astype(np.int32)
    return Images(names, pixels, labels)


def photographs(size: int, tiles: int = 4) -> Images:
    """Four photographs that come inside scikit-image, each cut into `tiles` x `tiles` images.

    A tile is called "astronaut r0c2" by its row and column, and is an image like any other; the
    report puts the tiles of a photograph together again.
    """
    import skimage.data

    names, pixels = [], []
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        picture = fit(Image.fromarray(getattr(skimage.data, name)()), size * tiles)
        for row in range(tiles):
            for column in range(tiles):
                names.append(f"{name} r{row}c{column}")
                pixels.append(picture[row * size :][:size, column * size :][:, :size])
    return Images(tuple(names), np.stack(pixels))


def without(images: Images, others: Images) -> Images:
    """The images that are not, pixel for pixel, among the others."""
    seen = {pixels.tobytes() for pixels in others.pixels}
    return images.take([i for i, p in enumerate(images.pixels) if p.tobytes() not in seen])
