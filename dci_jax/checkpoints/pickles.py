"""PyTorch's checkpoint files read without PyTorch: tensors by name and nothing else; nothing in them is executed.

Both formats, the zip of PyTorch >= 1.6 and the sequence of pickles before it. A pickle may call what it names; here it
may name a handful of things, which stand below, each replaced by a function of ours.
"""

import collections
import io
import math
import pickle
import pickletools
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C
_TYPES = {
    "HalfStorage": "<f2",
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "BFloat16Storage": "bfloat16",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "ShortStorage": "<i2",
    "IntStorage": "<i4",
    "LongStorage": "<i8",
    "BoolStorage": "|b1",
}


class NotWeights(ValueError):
    """The file is damaged, or names something that is no part of a tensor; the message says what."""


@dataclass(frozen=True)
class _Tensor:
    """Where a tensor lies: in which storage, of which type, how."""

    storage: tuple[str, str, int]  # key, type, number of values
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def load(path: Path) -> dict[str, Any]:
    """What a checkpoint holds: nested dicts with NumPy arrays for tensors, and plain values.

    Args:
      path: .pth, .pt or .th, as torch.save writes it.

    Raises:
      NotWeights: it holds anything else, or a tensor that does not fit its storage; a zip member is compressed or larger
        than the file.
      OSError, ValueError, EOFError, zipfile.BadZipFile: it is damaged.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            if len(names) != 1:
                raise NotWeights("a zip, but not PyTorch's: no data.pkl")
            folder = names[0].removesuffix("data.pkl")
            for member in archive.infolist():
                if member.compress_type != zipfile.ZIP_STORED or member.file_size > path.stat().st_size:
                    raise NotWeights(f"{member.filename} is compressed, which PyTorch never does")
            content = _unpickled(archive.read(names[0]))
            return _filled(content, lambda key: archive.read(f"{folder}data/{key}"))
    stream = io.BytesIO(path.read_bytes())
    if _unpickled(_next(stream)) != _MAGIC:
        raise NotWeights("it does not begin as PyTorch's files do")
    _next(stream), _next(stream)  # the protocol, and the machine that wrote it
    content = _unpickled(_next(stream))
    keys = _unpickled(_next(stream))
    if not isinstance(keys, list):
        raise NotWeights("its storages have no names")
    storages, sizes = {}, dict(_storages(content))
    for key in keys:
        count = int.from_bytes(stream.read(8), "little")
        name = sizes.get(str(key), "FloatStorage")
        length = count * _bytes(name)
        if length > len(stream.getbuffer()) - stream.tell():
            raise NotWeights("it is cut short")
        storages[str(key)] = stream.read(length)
    return _filled(content, storages.__getitem__)


def _next(stream):
    """The bytes of the pickle that begins here."""
    start = stream.tell()
    for _ in pickletools.genops(stream):
        pass
    end = stream.tell()
    stream.seek(start)
    return stream.read(end - start)


class _Reader(pickle.Unpickler):
    """The one class here, because that is how the library is told what a pickle may name."""

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _parameter
        if (module, name) == ("torch", "Size"):
            return tuple
        if module in ("torch", "torch.storage") and name in _TYPES:
            return name
        raise NotWeights(f"it names {module}.{name}, which is no part of a tensor")

    def persistent_load(self, saved):
        kind, storage, key, _, count, *_ = saved
        if kind != "storage" or storage not in _TYPES or not isinstance(count, int):
            raise NotWeights("a storage of unknown kind")
        return str(key), storage, count


def _unpickled(content):
    for operation, argument, _ in pickletools.genops(content):
        # A place in the memo that no pickle of this length can need would be allocated.
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > len(content):
            raise NotWeights("its pickle is malformed")
    try:
        return _Reader(io.BytesIO(content)).load()
    except NotWeights:
        raise
    except Exception as error:  # of many kinds, by where the damage is
        raise NotWeights(f"its pickle is malformed: {type(error).__name__}") from error


def _tensor(storage, offset, size, stride, *rest):
    return _Tensor(storage, offset, tuple(size), tuple(stride))


def _parameter(tensor, *rest):
    return tensor


def _storages(content):
    """(key, type) of every storage that a tensor names."""
    if isinstance(content, dict):
        for value in content.values():
            yield from _storages(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _storages(value)
    elif isinstance(content, _Tensor):
        yield content.storage[0], content.storage[1]


def _filled(content, read):
    """The same dicts with arrays for tensors; what is neither is left as it is."""
    if isinstance(content, dict):
        return {key: _filled(value, read) for key, value in content.items()}
    return _array(content, read) if isinstance(content, _Tensor) else content


def _array(tensor, read):
    key, name, count = tensor.storage
    numbers = (tensor.offset, *tensor.size, *tensor.stride)
    if not all(isinstance(n, int) and n >= 0 for n in numbers) or len(tensor.size) != len(tensor.stride):
        raise NotWeights("a tensor of impossible shape")
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.size, tensor.stride, strict=True))
    size = math.prod(tensor.size)
    if size and (last >= count or size > count):
        raise NotWeights("a tensor that does not fit its storage")
    raw = read(key)
    if len(raw) < count * _bytes(name):
        raise NotWeights("it is cut short")
    if name == "BFloat16Storage":
        values = (np.frombuffer(raw, "<u2", count).astype(np.uint32) << 16).view(np.float32)
    else:
        values = np.frombuffer(raw, _TYPES[name], count)
    if not size:
        return np.zeros(tensor.size, values.dtype)
    strides = [s * values.itemsize for s in tensor.stride]
    return np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.size, strides).copy()


def _bytes(name):
    return 2 if name == "BFloat16Storage" else np.dtype(_TYPES[name]).itemsize
