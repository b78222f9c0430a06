"""Checkpoint files -> tensors by their torch names: safetensors, .pth, .pt, .th; whole, and what was meant.

Nothing that a file holds is run, and nothing of a file is used before all of it was checked.
"""

import contextlib
import hashlib
import logging
import os
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

import jax
import numpy as np
import safetensors

from dci_jax.checkpoints import pickles
from dci_jax.errors import InputError, reason

_TORCH = (".pth", ".pt", ".th", ".ckpt", ".bin")
_COUNTER = "num_batches_tracked"  # of no use here, and an integer
# Where training scripts put the weights; averages of them (EMA) only where there is nothing else.
_NESTED = ("state_dict", "model_state_dict", "model")
_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
_WRAPPERS = re.compile(r"^((module|_orig_mod)\.)+")  # of DataParallel and torch.compile
_FLOATS = {"F16": "<f2", "BF16": jax.numpy.bfloat16, "F32": "<f4", "F64": "<f8"}
log = logging.getLogger("dci_jax")

_DATE = r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])"


def read(path: str | Path, sha256: str = "", weights_key: str = "") -> dict[str, np.ndarray]:
    """The tensors of a checkpoint by their torch names, float32, without step counters and other integers.

    `module.` and `_orig_mod.` before a name are dropped, and the original RepVGG's names become timm's.

    Args:
      path: a `.safetensors`, `.pth`, `.pt`, `.th`, `.ckpt` or `.bin` file. All but the first may hold the weights under
        "state_dict", "model_state_dict" or "model", or, if there is nothing else, averaged under "state_dict_ema".
      weights_key: where they are, such as "state_dict_ema"; empty: the first of those. A log line says which was taken.
      sha256: of the file, or at least its first 8 hex digits. If empty, the file's name may promise
        it, as `resnet18-f37072fd.pth` does (torch.hub's convention); otherwise it is not checked.

    Raises:
      InputError: the file is missing, damaged, of unknown kind; it
        holds other numbers than floats, or a name twice.
    """
    path = Path(path)
    _check_kind(path)
    if weights_key and path.suffix not in _TORCH:
        raise InputError(f"weights_key is {weights_key!r}, but {path} holds nothing but weights; leave it out.")
    if sha256:
        check_sha256(path, sha256)
    elif promised := _promised(path):
        cure = "fetch it again, or rename it if the digits in its name are no checksum"
        check_sha256(path, promised, cure)
    tensors = _read_torch(path, weights_key) if path.suffix in _TORCH else _read_safetensors(path)
    origin = {}
    names = timm_names(_WRAPPERS.sub("", name) for name in tensors)
    for stored, name in zip(tensors, names, strict=True):
        if name in origin:
            raise InputError(
                f"{path} holds {name!r} twice, as {origin[name]!r} and as {stored!r}; save the "
                "model's state_dict() again, with one of them."
            )
        origin[name] = stored
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which `load` refuses
        return {name: np.asarray(tensors[stored], np.float32) for name, stored in origin.items()}


def sha256(path: str | Path) -> str:
    """The file's sha256, 64 hex digits; read piece by piece."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_sha256(path: str | Path, expected: str, cure: str = "fetch it again") -> None:
    """Refuse a file that is not, bit by bit, the one that was meant.

    Args:
      path: the file.
      expected: its sha256 in hex digits of either case, or at least the first 8 of them.
      cure: what to do, for the message.

    Raises:
      InputError: no file, another sha256 (the message names both), or `expected` is none.
    """
    path = Path(path)
    if not re.fullmatch(r"[0-9a-fA-F]{8,64}", expected):
        raise InputError(f"{expected!r} is no sha256; give its 64 hex digits, or at least the first 8 of them.")
    if not os.path.isfile(path):
        raise InputError(f"No checkpoint at {path}; check the path of the weights.")
    found = sha256(path)
    if not found.startswith(expected.lower()):
        raise InputError(
            f"{path} is damaged or not the file that was meant: its sha256 is {found}, but "
            f"{expected.lower()}{'...' if len(expected) < 64 else ''} is expected; {cure}."
        )


def _check_kind(path: Path) -> None:
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder; give the path of the checkpoint in it.")
    if not os.path.isfile(path):
        raise InputError(f"No checkpoint at {path}; check the path of the weights.")
    if path.suffix not in (".safetensors", *_TORCH):
        raise InputError(
            f"{path} is not a checkpoint that can be read; give a .safetensors, .pth, .pt, .th, .ckpt or .bin file."
        )
    try:
        with path.open("rb") as stream:
            start = stream.read(256).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); see to it.") from error
    if not path.stat().st_size:
        raise InputError(f"{path} is empty; fetch it again.")
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        raise InputError(
            f"{path} is a git-LFS pointer, which only names the weights; fetch the file itself, such as "
            "with `git lfs pull`."
        )
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        raise InputError(
            f"{path} is a web page, not a checkpoint; open it in a browser to see what the server "
            "answered, and fetch the file itself."
        )


def _promised(path: Path) -> str:
    """The first digits of the sha256 in a file's name, or nothing; 20261123 is a date."""
    digits = re.search(r"-([0-9a-f]{8})$", path.stem)
    return "" if not digits or re.fullmatch(_DATE, digits[1]) else digits[1]


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        content = safetensors.deserialize(path.read_bytes())
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is damaged or cut short ({error}); fetch it again.") from error
    tensors = {}
    for name, tensor in content:
        if not name.endswith(_COUNTER):
            if tensor["dtype"] not in _FLOATS:
                _check_integer(path, name, tensor["dtype"])
                continue
            flat = np.frombuffer(tensor["data"], _FLOATS[tensor["dtype"]])
            tensors[name] = flat.reshape(tensor["shape"])
    return tensors


def _read_torch(path: Path, weights_key: str) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) if zipfile.is_zipfile(path) else contextlib.nullcontext() as archive:
            wrong = archive and archive.testzip()  # PyTorch does not look at the checksums that it writes
            damaged = wrong and f"{wrong} does not have its checksum"
    except Exception as error:  # of many kinds, by where the damage is
        damaged = reason(error)
    if damaged:
        raise InputError(f"{path} is damaged ({damaged}); fetch it again.")
    try:
        content = pickles.load(path)
    except (OSError, ValueError, LookupError, EOFError, OverflowError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} is damaged or holds more than weights ({reason(error)}); fetch it again, or save the weights alone: "
            "torch.save(torch.load(FILE, weights_only=False)['state_dict'], 'weights.pth'), of a file that you trust."
        ) from error
    content = content if isinstance(content, dict) else {}
    tensors = {}
    for name, tensor in _nested(path, content, weights_key).items():
        if isinstance(tensor, np.ndarray) and not str(name).endswith(_COUNTER):
            if tensor.dtype.kind != "f":
                _check_integer(path, name, tensor.dtype)
                continue
            tensors[str(name)] = tensor.astype(np.float32)
    if not tensors:
        raise InputError(f"{path} holds no tensors by name; save the model's state_dict() instead.")
    return tensors


def _nested(path, content, weights_key):
    """The dict of tensors in what a file of PyTorch's holds."""
    dicts = [key for key, value in content.items() if isinstance(value, dict)]
    if weights_key:
        if weights_key not in dicts:
            raise InputError(
                f"{path} has no weights under {weights_key!r}; choose from: {', '.join(map(str, dicts)) or 'none'}."
            )
        return content[weights_key]
    found = [key for key in (*_NESTED, *_AVERAGED) if key in dicts]
    if not found:
        return content
    if len(found) > 1 or found[0] in _AVERAGED:
        others = f", not {' or '.join(found[1:])}" if found[1:] else ""
        log.warning("%s: the weights under %r are taken%s; target.weights_key chooses", path, found[0], others)
    return content[found[0]]


def _check_integer(path, name, dtype):
    """Raise InputError where a weight is no float; other integers (counters, indices) are no weights."""
    if str(name).rpartition(".")[2] in ("weight", "bias", "running_mean", "running_var"):
        raise InputError(
            f"{path}: {name!r} holds {dtype}, but weights are floats of 16, 32 or 64 bits; give the "
            "checkpoint before quantization."
        )


def without_prefix(tensors: dict[str, np.ndarray], wanted: Iterable[str], path: str | Path) -> dict[str, np.ndarray]:
    """The tensors without a prefix that all their names share, such as "backbone.", if that makes them the wanted ones."""
    wanted = set(wanted)
    if wanted <= tensors.keys() or not tensors:
        return tensors
    first = next(iter(tensors))
    for end in (i + 1 for i, letter in enumerate(first) if letter == "."):
        prefix = first[:end]
        if all(name.startswith(prefix) for name in tensors):
            shorter = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
            if wanted <= shorter.keys():
                log.info("%s: the prefix %r of all names is dropped", path, prefix)
                return shorter
    return tensors


def timm_names(names: Iterable[str]) -> list[str]:
    """Names of the original RepVGG repository, in training form, as timm has them; others as they are.

    `stage0.rbr_dense.conv.weight` -> `stem.conv_kxk.conv.weight`, `stage1.0.rbr_identity.weight` ->
    `stages.0.0.identity.weight`, `linear.weight` -> `head.fc.weight`.
    """
    names = list(names)
    if not any(re.match(r"stage\d.*\.rbr_", name) for name in names):
        return names
    branches = {"dense": "conv_kxk", "1x1": "conv_1x1", "identity": "identity"}

    def renamed(name):
        name = re.sub(r"^stage0\.", "stem.", name)
        name = re.sub(r"^stage(\d+)\.", lambda stage: f"stages.{int(stage[1]) - 1}.", name)
        name = re.sub(r"\brbr_(dense|1x1|identity)\b", lambda rbr: branches[rbr[1]], name)
        return re.sub(r"^linear\.", "head.fc.", name)

    return [renamed(name) for name in names]
