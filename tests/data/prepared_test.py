import io
import json
import shutil
import socket
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dci_jax.data import images as data
from dci_jax.errors import InputError


def encoded(color=(250, 0, 0), mode="RGB", size=(40, 32), kind="PNG"):
    stream = io.BytesIO()
    Image.new(mode, size, color).save(stream, kind)
    return stream.getvalue()


@pytest.fixture
def tfds(tmp_path, monkeypatch):
    """tensorflow-datasets, with an empty folder as the place of its sets and no way to the network."""
    needs = "needs tensorflow-datasets and array_record"
    pytest.importorskip("array_record.python.array_record_data_source", reason=needs)
    tfds = pytest.importorskip("tensorflow_datasets", reason=needs)
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))

    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tfds


def prepare(tfds, name, version, labelled=True, **splits):
    """Let tensorflow-datasets write a set of these encoded pictures: split -> [(picture, label)]."""
    tfds.disable_progress_bar()
    features = {"image": tfds.features.Image()}
    if labelled:
        features["label"] = tfds.features.ClassLabel(num_classes=1000)

    class Pictures(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(version)

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, _):
            return {split: self._generate_examples(split) for split in splits}

        def _generate_examples(self, split):
            for key, (picture, label) in enumerate(splits[split]):
                example = {"image": io.BytesIO(picture), "label": label}
                yield key, {name: example[name] for name in features}

    Pictures.name = name
    builder = Pictures(file_format="array_record")
    builder.download_and_prepare()
    return Path(builder.data_dir)


@pytest.fixture
def tiny(tfds):
    """A set that nobody but this machine knows, of five pictures: its folder."""
    pictures = [
        (encoded((250, 0, 0)), 3),
        (encoded(250, "L", kind="JPEG"), 1),
        (encoded((0, 255, 255, 0), "CMYK", kind="JPEG"), 4),
        (b"no picture", 1),
        (encoded((0, 0, 250)), 0),
    ]
    return prepare(tfds, "tiny_pictures", "1.0.0", test=pictures, train=pictures[:2])


def test_a_set_written_by_tensorflow_datasets_is_read_without_tensorflow(tiny):
    images = data.load("tfds:tiny_pictures", (32, 32, 3))
    assert len(images) == 4
    assert set(images.names) < {f"tiny_pictures/test[{i}]" for i in range(5)}
    assert images.pixels.shape == (4, 32, 32, 3)
    assert images.labels.dtype == np.int32
    assert sorted(images.labels) == [0, 1, 3, 4]  # their order on disk is shuffled
    by_label = dict(zip(images.labels, images.pixels, strict=True))
    assert list(by_label[3][9, 9]) == [250, 0, 0]
    assert list(by_label[1][9, 9]) == [250, 250, 250]
    assert np.abs(by_label[4][9, 9].astype(int) - [255, 0, 0]).max() < 3
    (skipped,) = images.skipped
    assert skipped.startswith("tiny_pictures/test[")
    assert skipped.endswith("no image that Pillow can read")
    assert "tensorflow" not in sys.modules


def test_a_named_split_or_a_part_of_it(tiny):
    assert len(data.load("tfds:tiny_pictures:train", (8, 8, 3))) == 2
    images = data.load("tfds:tiny_pictures:train[1:]", (8, 8, 3))
    assert images.names == ("tiny_pictures/train[1:][0]",)


def test_reading_stops_after_count(tiny, tfds, monkeypatch):
    source = type(tfds.builder_from_directory(tiny).as_data_source("test"))
    read, get = [], source.__getitem__
    monkeypatch.setattr(source, "__getitem__", lambda self, i: read.append(i) or get(self, i))
    images = data.load("tfds:tiny_pictures:train", (8, 8, 3), count=1)
    assert images.names == ("tiny_pictures/train[0]",)
    assert read == [0]


def test_the_usual_split_of_imagenet_cifar_and_celeb_a(tfds):
    picture = [(encoded(), 7)]
    for name, labelled, splits in (
        ("imagenet2012", True, dict(train=picture, validation=picture, test=[(encoded(), -1)])),
        ("cifar10", True, dict(train=picture, test=picture)),
        ("celeb_a", False, dict(train=picture, validation=picture, test=picture)),
    ):
        prepare(tfds, name, str(tfds.builder(name).version), labelled, **splits)
    images = data.load("tfds:imagenet2012", (32, 32, 3))
    assert (images.names, list(images.labels)) == (("imagenet2012/validation[0]",), [7])
    assert data.load("tfds:imagenet2012:test", (32, 32, 3)).labels is None
    assert data.load("tfds:cifar10", (32, 32, 3)).names == ("cifar10/test[0]",)
    images = data.load("tfds:celeb_a", (32, 32, 3))
    assert (images.names, images.labels) == (("celeb_a/test[0]",), None)


def test_validation_where_there_is_no_test_split_and_neither(tfds):
    picture = [(encoded(), 7)]
    prepare(tfds, "one", "1.0.0", train=picture, validation=picture)
    assert data.load("tfds:one", (8, 8, 3)).names == ("one/validation[0]",)
    prepare(tfds, "other", "1.0.0", train=picture)
    with pytest.raises(InputError, match=r"give --x=tfds:other:SPLIT with one of: train\.$"):
        data.load("tfds:other", (8, 8, 3), flag="--x")
    for split in ("nix", "train[5:]", "train["):
        with pytest.raises(InputError, match="with one of: train"):
            data.load(f"tfds:other:{split}", (8, 8, 3))


def test_labels_of_a_file_replace_those_of_the_set(tiny, tmp_path):
    (tmp_path / "labels.csv").write_text("image,label\ntest[0],8\ntiny_pictures,9\n")
    images = data.load("tfds:tiny_pictures", (8, 8, 3), labels=tmp_path / "labels.csv")
    assert set(images.labels) <= {8, 9}
    assert 9 in images.labels


def one_sentence(path):
    """What is said of it, which comes at once and is short."""
    start = time.monotonic()
    with pytest.raises(InputError) as caught:
        data.load(path, (8, 8, 3))
    assert time.monotonic() - start < 5
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    return str(caught.value)


def test_a_set_that_was_never_prepared_names_the_command(tfds, tmp_path):
    said = one_sentence("tfds:cifar10")
    assert f"never prepared in {tmp_path / 'cifar10'}" in said
    assert "tfds.builder('cifar10', file_format='array_record').download_and_prepare()\"" in said
    said = one_sentence("tfds:imagenet2012:validation")
    assert f"ILSVRC2012_img_val.tar from https://image-net.org/download-images into {tmp_path}/downloads/manual" in said
    said = one_sentence("tfds:imagenet_v2")
    assert "tfds.builder('imagenet_v2/matched-frequency'" in said


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("tfds:nonsense_zzz", "Dataset nonsense_zzz not found"),
        ("tfds:imagenet_resized/nix", "BuilderConfig nix not found"),
        ("tfds:", "names no set"),
        ("tfds:two words", "names no set"),
        ("tfds:../cifar10", "names no set"),
    ],
)
def test_a_set_that_does_not_exist(tfds, path, named):
    assert named in one_sentence(path)


def test_a_set_whose_own_code_needs_tensorflow(tfds):
    if "tensorflow" in sys.modules:
        pytest.skip("TensorFlow is loaded")
    assert one_sentence("tfds:abstract_reasoning").endswith("pip install tensorflow")


def test_a_set_of_tfrecord_files_names_the_command_and_is_read_after_it(tfds):
    folder = prepare(tfds, "cifar10", str(tfds.builder("cifar10").version), test=[(encoded(), 1)])
    info = folder / "dataset_info.json"
    content = json.loads(info.read_text())
    assert content["fileFormat"] == "array_record"
    info.write_text(json.dumps({**content, "fileFormat": "tfrecord"}))
    said = one_sentence("tfds:cifar10")
    assert "as tfrecord, which only TensorFlow reads" in said
    assert f"--dataset_version_dir={folder} --out_file_format=array_record" in said
    # What that command leaves behind: files of both formats, and this.
    both = {"fileFormat": "tfrecord", "alternativeFileFormats": ["array_record"]}
    info.write_text(json.dumps({**content, **both}))
    assert len(data.load("tfds:cifar10", (8, 8, 3))) == 1


def test_a_set_without_images(tfds):
    builder = tfds.builder("cifar10")
    folder = prepare(tfds, "cifar10", str(builder.version), test=[(encoded(), 1)])
    features = folder / "features.json"
    features.write_text(
        features.read_text().replace('"image": {\n                "image"', '"photo": {\n                "image"')
    )
    assert "no feature 'image' but ['label', 'photo']" in one_sentence("tfds:cifar10")


def test_damaged_files_of_a_set(tiny):
    (file,) = tiny.glob("*-test.array_record*")
    content = file.read_bytes()
    file.write_bytes(content[:200] + b"x" * 60 + content[260:])
    said = one_sentence("tfds:tiny_pictures")
    assert "damaged at record 0" in said
    assert f"delete {tiny} and run once" in said
    file.write_bytes(content[: len(content) // 2])  # its records come back empty
    assert "no image that can be read (5 damaged)" in one_sentence("tfds:tiny_pictures")
    file.unlink()
    assert "No such file" in one_sentence("tfds:tiny_pictures")
    (tiny / "dataset_info.json").write_text("{")
    assert "cannot be opened" in one_sentence("tfds:tiny_pictures")
    shutil.rmtree(tiny)
    assert "Dataset tiny_pictures not found" in one_sentence("tfds:tiny_pictures")


@pytest.mark.parametrize("package", ["tensorflow_datasets", "array_record"])
def test_a_missing_package_is_named_with_what_to_install(package, monkeypatch):
    for module in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    said = one_sentence("tfds:cifar10")
    assert said.endswith("pip install tensorflow-datasets importlib_resources array_record")
