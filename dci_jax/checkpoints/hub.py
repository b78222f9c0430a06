"""Where published weights are fetched from, and how it is known that they arrived as they were published."""

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

from dci_jax.checkpoints import read
from dci_jax.errors import InputError

log = logging.getLogger("dci_jax")


@dataclass(frozen=True)
class Source:
    """A published checkpoint, in a repository of huggingface.co.

    Attributes:
      network: a key of `dci_jax.models.MODELS`.
      repository: such as "timm/resnet18.tv_in1k".
      revision: the repository's commit, 40 hex digits.
      sha256: of the file, 64 hex digits; None: not known when this was written, so what the hub
        itself states for the file is checked instead, and said so in the log.
      size: of the file in bytes; None: not known.
      licence: of the weights, as the repository states it.
      top1: published top-1 accuracy on ImageNet's validation images, in %.
      file: its path in the repository.
    """

    network: str
    repository: str
    revision: str
    sha256: str | None
    size: int | None
    licence: str
    top1: float
    file: str = "model.safetensors"

    @property
    def url(self) -> str:
        """Where a browser gets the file."""
        return f"https://huggingface.co/{self.repository}/resolve/{self.revision}/{self.file}"


SOURCES = {
    "resnet18.tv_in1k": Source(
        "resnet18",
        "timm/resnet18.tv_in1k",
        "bbd144b3e5565108aad885f145491d11bc6ce807",
        "694f673df6520a3158624e8a89af086f59923ee4cd7436fe5bc3bc71d295ad81",
        46807446,
        "bsd-3-clause",
        69.76,
    ),
    "resnet34.tv_in1k": Source(
        "resnet34",
        "timm/resnet34.tv_in1k",
        "1b7b21cca82ff974d341713f777bf740c2db38c4",
        "0bb82595a564991a9d424708b33f5d843f5aaed7f6c0886ff10849ff97022235",
        87278522,
        "bsd-3-clause",
        73.31,
    ),
    "resnet50.tv_in1k": Source(
        "resnet50",
        "timm/resnet50.tv_in1k",
        "78f3ecfdb38e06d9b8397f662e7ab8fee96026fa",
        "5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888",
        102469840,
        "bsd-3-clause",
        76.13,
    ),
    "repvgg_a0.rvgg_in1k": Source(
        "repvgg_a0",
        "timm/repvgg_a0.rvgg_in1k",
        "8eba874cbccfd4f5815f3c8dcb10959a6fc7dcf0",
        None,
        None,
        "mit",
        72.41,
    ),
}


def fetch(name: str) -> Path:
    """The file of a source: from the Hugging Face cache, or downloaded into it; checked either way.

    Args:
      name: a key of `SOURCES`.

    Raises:
      InputError: unknown name; the hub cannot be reached or refuses, and the file is not in the
        cache; or the file is damaged.
    """
    if name not in SOURCES:
        raise InputError(f"No weights are called {name!r}; choose from: {', '.join(SOURCES)}.")
    source = SOURCES[name]
    path = _download(source)
    cure = f"delete {path.resolve()} and start again, which fetches it"
    size = path.stat().st_size
    if source.size is not None and size != source.size:
        raise InputError(
            f"{path} is damaged: it has {size} bytes and sha256 {read.sha256(path)}, but "
            f"{source.size} bytes and sha256 {source.sha256} are expected; {cure}."
        )
    expected = source.sha256 or _stated(source, path)
    if expected:
        read.check_sha256(path, expected, cure)
    said = f"sha256 {expected or read.sha256(path)}"
    if not source.sha256:
        try:
            read.read(path)  # at the least it is whole
        except InputError as error:
            raise InputError(f"{str(error).rstrip('.')}: {cure}.") from error
        said += " is not pinned; " + ("the hub states it" if expected else "the hub states none")
    log.info(
        "%s: %s of %s, licence %s, published top-1 %.2f %%, %s",
        *(name, source.file, source.repository, source.licence, source.top1, said),
    )
    return path


def _download(source: Source) -> Path:
    by_hand = f"download {source.url} where there is a network connection and give its path as target.weights"
    try:
        import huggingface_hub
        from huggingface_hub import constants
    except ImportError as error:
        raise InputError(
            f"{source.repository}/{source.file} is fetched with huggingface_hub, which is missing: pip "
            f"install huggingface_hub, or {by_hand}."
        ) from error
    try:
        return Path(huggingface_hub.hf_hub_download(source.repository, source.file, revision=source.revision))
    except Exception as error:  # its own types, the HTTP client's and the system's
        reason = re.split(r"\n|\.\s", str(error).strip())[0].rstrip(".") or "no reason given"
        raise InputError(
            f"{source.repository}/{source.file} could not be fetched ({type(error).__name__}: {reason}); "
            f"{by_hand}, or copy the cache of a machine that has it to "
            f"{constants.HF_HOME} (HF_HOME)."
        ) from error


def _stated(source: Source, path: Path) -> str:
    """The sha256 that the hub states for the file, or nothing if it cannot be had.

    The cache's entries are links to files that are named so (one step only: what those link to may be
    named by another hash); where the system has no links, the hub is asked.
    """
    target = Path(os.readlink(path)) if path.is_symlink() else path
    stated = target.name if target.parent.name == "blobs" else ""
    if not stated:
        import huggingface_hub

        try:
            url = huggingface_hub.hf_hub_url(source.repository, source.file, revision=source.revision)
            stated = huggingface_hub.get_hf_file_metadata(url).etag or ""
        except Exception:  # no network: the caller says that it was not checked
            stated = ""
    return stated if re.fullmatch(r"[0-9a-f]{64}", stated) else ""
