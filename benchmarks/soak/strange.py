"""Files as strangers make them: checkpoints of PyTorch whose pickle is damaged or would run something, and odd pictures.

The pickles are written opcode by opcode, so that they may name whatever they like, and PyTorch is not needed.
"""

import io
import pickle
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.soak.damage import damaged
from dci_jax.checkpoints import read as checkpoints
from dci_jax.data import images

_MAGIC = 0x1950A86A20F9469CFC6C
_NUMBERS = (0, 1, 2, 3, 4, 12, -1, 13, 10**6, 2**31 - 1)
_NAMES = (
    *(
        ("torch._utils", "_rebuild_parameter"),
        ("torch", "Size"),
        ("torch", "FloatStorage"),
        ("collections", "OrderedDict"),
    ),
    *(("torch.nn", "Module"), ("numpy", "load"), ("builtins", "getattr"), ("no.such", "thing"), ("", "")),
)
# Each would leave a folder at the path that it is given.
_CALLS = (
    *(
        ("posix", "mkdir", "{}"),
        ("os", "makedirs", "{}"),
        ("os", "system", "mkdir '{}'"),
        ("pathlib", "Path.mkdir", "{}"),
    ),
    *(("builtins", "eval", "__import__('os').mkdir('{}')"), ("builtins", "exec", "import os; os.mkdir('{}')")),
)
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "F")
_SUFFIXES = ("png", "jpeg", "bmp", "gif", "webp", "tiff", "ppm", "ico")
_SIZES = ((1, 1), (8, 8), (3, 17), (300, 1), (1, 300), (64, 48))
_ESCAPED = "escaped_from_dci_jax.png"
_PLACES = (
    *(
        "a.png",
        "A.PNG",
        "b/a.jpg",
        "é.png",
        "<script>.png",
        "x" * 240 + ".png",
        ".hidden.png",
        "__MACOSX/._a.png",
        "a.txt",
    ),
    *(f"../{_ESCAPED}", f"/tmp/{_ESCAPED}", f"b/../../{_ESCAPED}", f"..\\{_ESCAPED}", f"C:\\{_ESCAPED}", "b/", "a"),
)


def weights(rng: random.Random, folder: Path) -> Callable[[], None]:
    """A checkpoint of two tensors, in either of PyTorch's formats; nothing that it names may run."""
    ran, path = folder / "it_ran", folder / "x.pth"
    entries = [_text("a.weight"), _tensor(rng, "0", (3, 4), (4, 1)), _text("a.bias"), _tensor(rng, "1", (3,), (1,))]
    if rng.random() < 0.2:
        module, name, argument = rng.choice(_CALLS)
        entries += [_text("a.call"), _named(module, name), _tuple(_text(argument.format(ran))), b"R"]
    content = b"\x80\x02}(" + b"".join(entries) + b"u."
    if rng.random() < 0.5:
        content = damaged(rng, content)
    storages = [np.arange(12, dtype=np.float32).tobytes(), np.zeros(3, np.float32).tobytes()]
    made = _zipped(rng, content, storages) if rng.random() < 0.6 else _legacy(content, storages)
    path.write_bytes(damaged(rng, made) if rng.random() < 0.3 else made)

    def read():
        try:
            checkpoints.read(path)
        finally:
            assert not ran.exists(), "the pickle ran"

    return read


def pictures(rng: random.Random, folder: Path) -> Callable[[], None]:
    """A zip of pictures of odd modes, sizes, names and claims; nothing of it may be written anywhere."""
    path = folder / "x.zip"
    with zipfile.ZipFile(path, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
        for _ in range(rng.randint(1, 5)):
            member = zipfile.ZipInfo(rng.choice(_PLACES))
            content = _picture(rng)
            if rng.random() < 0.05:
                member.external_attr, content = 0o120777 << 16, b"/etc/passwd"  # a link
            archive.writestr(member, damaged(rng, content) if rng.random() < 0.2 else content)
    if rng.random() < 0.15:
        path.write_bytes(damaged(rng, path.read_bytes()))

    def read():
        try:
            images.load(path, (8, 8, 3))
        finally:
            assert list(folder.iterdir()) == [path], "something was written beside the archive"
            assert not any((top / _ESCAPED).exists() for top in (folder.parent, Path("/tmp"), Path())), (
                "a member escaped"
            )

    return read


def _picture(rng):
    mode, size = rng.choice(_MODES), rng.choice(_SIZES)
    picture, stream = Image.new(mode, size, 1 if mode in ("1", "L", "P", "I", "I;16", "F") else None), io.BytesIO()
    more = {"save_all": True, "append_images": [picture] * 2} if rng.random() < 0.2 else {}
    try:
        picture.save(stream, rng.choice(_SUFFIXES), **more)
    except (OSError, ValueError, KeyError):  # a format that has no such mode, or a single picture only
        stream = io.BytesIO()
        picture.convert("RGB").save(stream, "png")
    content = stream.getvalue()
    if content.startswith(b"\x89PNG") and rng.random() < 0.3:  # a header that claims what is not there
        width, height = rng.choice([(30_000, 30_000), (2**31 - 1, 1), (10**5, 10**5), (0, 8)])
        head = b"IHDR" + struct.pack(">II", width, height) + content[24:29]
        content = content[:12] + head + struct.pack(">I", zlib.crc32(head)) + content[33:]
    return content


def _tensor(rng, key, size, stride):
    """A call of PyTorch's that makes a tensor, now and then with a wrong number or another name."""
    offset, count = 0, 12 if key == "0" else 3
    make, kind = ("torch._utils", "_rebuild_tensor_v2"), ("torch", "FloatStorage")
    for _ in range(rng.choice([0, 0, 1, 2])):
        what, wrong = rng.randrange(6), rng.choice(_NUMBERS)
        if what == 0:
            size = (*size[:-1], wrong)
        elif what == 1:
            stride = (*stride[:-1], wrong)
        elif what == 2:
            offset = wrong
        elif what == 3:
            count = wrong
        elif what == 4:
            make = rng.choice(_NAMES)
        else:
            kind = rng.choice([*_NAMES, ("torch", "BFloat16Storage"), ("torch", "BoolStorage")])
    storage = _tuple(_text("storage"), _named(*kind), _text(key), _text("cpu"), _number(count)) + b"Q"
    hooks = _named("collections", "OrderedDict") + b")R"
    shape = _tuple(*map(_number, size)), _tuple(*map(_number, stride))
    return _named(*make) + _tuple(storage, _number(offset), *shape, b"\x89", hooks) + b"R"


def _zipped(rng, content, storages):
    stream, top = io.BytesIO(), rng.choice(["w", "archive", "..", "a/b"])
    method = zipfile.ZIP_DEFLATED if rng.random() < 0.1 else zipfile.ZIP_STORED
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr(f"{top}/data.pkl", content)
        for key, data in enumerate(storages[: rng.choice([2, 2, 2, 1])]):
            archive.writestr(f"{top}/data/{key}", data)
    return stream.getvalue()


def _legacy(content, storages):
    before = b"".join(pickle.dumps(part, 2) for part in (_MAGIC, 1001, {"little_endian": True}))
    counted = b"".join(struct.pack("<q", len(data) // 4) + data for data in storages)
    return before + content + pickle.dumps(["0", "1"], 2) + counted


def _text(text):
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def _number(number):
    return b"J" + struct.pack("<i", number)


def _tuple(*items):
    return b"(" + b"".join(items) + b"t"


def _named(module, name):
    return f"c{module}\n{name}\n".encode()
