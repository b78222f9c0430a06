"""Sets that tensorflow-datasets has prepared on this machine, read without TensorFlow."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dci_jax.errors import InputError, reason


def records(path: str, flag: str) -> Iterator[tuple[str, bytes | None, int | None]]:
    """(name, encoded picture, label) of each record of "tfds:NAME" or "tfds:NAME:SPLIT".

    tensorflow-datasets only fetches the records; its own decoder would leave some pictures CMYK.

    Args:
      path: SPLIT may be a part, such as "train[:1000]"; without it, it is "test" where there is one
        ("validation" for imagenet2012, whose test split has no labels), or else "validation".
      flag: named in error messages.

    Yields:
      a name such as "cifar10/test[3]"; PNG, JPEG or the like, None where the record is empty; and
      the label, at least 0, None where there is none.

    Raises:
      InputError: no such set or split, never prepared here, in a form that only TensorFlow reads,
        damaged, or tensorflow-datasets is not installed.
    """
    name, _, split = path.removeprefix("tfds:").partition(":")
    if not re.fullmatch(r"\w+(/[\w.-]+)?", name):
        raise InputError(f"{path} names no set; give tfds:NAME or tfds:NAME:SPLIT in {flag}.")
    try:
        import array_record.python.array_record_data_source  # noqa: F401  tfds reads with it
        import tensorflow_datasets as tfds

        code = tfds.builder(name, try_gcs=False)
        folder = Path(code.data_dir)
        ready = (folder / "dataset_info.json").exists()
        # From its files, as only they tell that a set was converted to a second format.
        prepared = tfds.builder_from_directory(folder) if ready else code
        splits, features = sorted(prepared.info.splits), sorted(prepared.info.features)
    except ImportError as error:
        needs = "tensorflow-datasets importlib_resources array_record"
        needs = "tensorflow" if "'tensorflow'" in str(error) else needs
        raise InputError(f"{path} cannot be read ({reason(error)}); run: pip install {needs}") from error
    except Exception as error:  # of every kind, for names, configurations and damaged metadata
        raise InputError(
            f"{path} cannot be opened ({reason(error)}); give a set in {flag} that "
            "https://www.tensorflow.org/datasets/catalog lists, or prepare it again."
        ) from error
    if not ready:
        raise InputError(f"{path} was never prepared in {folder}; {_preparation(code)}")
    if "image" not in features:
        raise InputError(f"{path} has no feature 'image' but {features}; give another in {flag}.")
    if not split:
        split = next((s for s in ("test", "validation") if s in splits), "")
        split = "validation" if name == "imagenet2012" else split
    try:
        encoded = {"image": tfds.decode.SkipDecoding()}
        records = prepared.as_data_source(split, decoders=encoded)
    except NotImplementedError as error:
        raise InputError(
            f"{path} is prepared in {folder} as {prepared.info.file_format.value}, which only "
            "TensorFlow reads; run once, where tensorflow, apache-beam and mlcroissant are installed: "
            f"tfds convert_format --dataset_version_dir={shlex.quote(str(folder))} "
            "--out_file_format=array_record"
        ) from error
    except ValueError as error:
        raise InputError(
            f"{path} has no split {split!r} ({reason(error)}); "
            f"give {flag}=tfds:{name}:SPLIT with one of: {', '.join(splits)}."
        ) from error
    for i in range(len(records)):
        try:
            record = records[i]
        except Exception as error:  # of every kind; it is about a whole file of many records
            raise InputError(
                f"{path} is damaged at record {i} ({reason(error)}); delete {folder} and {_preparation(code)}"
            ) from error
        label = record.get("label")
        known = isinstance(label, int | np.integer) and label >= 0
        yield f"{name}/{split}[{i}]", record["image"], int(label) if known else None


def _preparation(builder) -> str:
    """How to bring a set of tensorflow-datasets into the form that is read here."""
    name = builder.info.full_name.rpartition("/")[0]  # without the version
    command = (
        'run once, where tensorflow is installed: python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder('{name}', file_format='array_record').download_and_prepare()\""
    )
    if not builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        return command
    archives = f"the archives that https://www.tensorflow.org/datasets/catalog/{builder.name} names"
    if name == "imagenet2012":
        archives = "ILSVRC2012_img_val.tar from https://image-net.org/download-images"
    return f"put {archives} into {Path(builder.data_dir_root) / 'downloads' / 'manual'} and {command}"
