import logging
import re
from types import SimpleNamespace

import pytest
from safetensors.numpy import load_file, save_file

from dci_jax import models
from dci_jax.checkpoints import assign, read
from dci_jax.checkpoints import hub as sources
from dci_jax.errors import InputError
from dci_jax.models.cifar_resnet import torch_prefix

huggingface_hub = pytest.importorskip("huggingface_hub", reason="fetches weights: pip install huggingface_hub")
from huggingface_hub import constants, errors  # noqa: E402

NAME = "resnet20.made"
REVISION = 40 * "c"


@pytest.fixture
def file(network, tmp_path):
    path = tmp_path / "model.safetensors"
    assign.save(network, path, torch_prefix, {})
    return path


@pytest.fixture
def publish(file, monkeypatch):
    """`publish(pinned)` puts the made file's source among `SOURCES`, with its sha256 and size or without."""

    def publish(pinned):
        digest, size = (read.sha256(file), file.stat().st_size) if pinned else (None, None)
        source = sources.Source("cifar_resnet20", "made/resnet20", REVISION, digest, size, "mit", 91.7)
        monkeypatch.setitem(sources.SOURCES, NAME, source)
        return source

    return publish


@pytest.fixture
def hub(file, monkeypatch):
    """A hub that gives `file`, and states `hub.etag` of it; an exception in its place is raised."""
    hub = SimpleNamespace(file=file, etag=read.sha256(file), asked=[])

    def answer(name, value):
        hub.asked.append(name)
        if isinstance(value, Exception):
            raise value
        return value

    def download(repository, file, revision):
        assert (repository, file, revision) == ("made/resnet20", "model.safetensors", REVISION)
        return answer("file", hub.file)

    def metadata(url):
        assert url == huggingface_hub.hf_hub_url("made/resnet20", "model.safetensors", revision=REVISION)
        return SimpleNamespace(etag=answer("etag", hub.etag))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", metadata)
    return hub


@pytest.fixture
def cache(file, tmp_path, monkeypatch):
    """The Hugging Face cache as its client lays it out, with the made file in it; and no network."""
    folder = tmp_path / "hub" / "models--made--resnet20"
    blob = folder / "blobs" / read.sha256(file)
    blob.parent.mkdir(parents=True)
    blob.write_bytes(file.read_bytes())
    entry = folder / "snapshots" / REVISION / "model.safetensors"
    entry.parent.mkdir(parents=True)
    try:
        entry.symlink_to(f"../../blobs/{blob.name}")
    except OSError:
        pytest.skip("this system makes no symbolic links")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return SimpleNamespace(blob=blob, entry=entry)


def spoil(path):
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)


def test_the_manifest_is_whole_and_says_what_is_not_known():
    for name, source in sources.SOURCES.items():
        assert source.network in models.MODELS, name
        assert source.repository == f"timm/{name}"
        assert re.fullmatch("[0-9a-f]{40}", source.revision), name
        assert source.sha256 is None or re.fullmatch("[0-9a-f]{64}", source.sha256), name
        assert source.size is None or source.size > 1e6, name
        assert source.licence in ("bsd-3-clause", "mit"), name
        assert 60 < source.top1 < 90, name
        assert source.url.endswith(f"/timm/{name}/resolve/{source.revision}/model.safetensors")
    revisions = [source.revision for source in sources.SOURCES.values()]
    digests = [source.sha256 for source in sources.SOURCES.values() if source.sha256]
    assert len(set(revisions)) == len(revisions)
    assert len(set(digests)) == len(digests)


def test_an_unknown_source_lists_the_known():
    with pytest.raises(InputError, match=r"'resnet18'.*resnet18\.tv_in1k"):
        sources.fetch("resnet18")


def test_a_pinned_file_is_fetched_and_loaded(publish, hub, network, caplog):
    source = publish(pinned=True)
    with caplog.at_level(logging.INFO, "dci_jax"):
        path = sources.fetch(NAME)
    assert assign.load(network, path, torch_prefix, source.sha256).name == network.name
    assert hub.asked == ["file"]
    assert source.sha256 in caplog.text
    assert "licence mit, published top-1 91.70 %" in caplog.text
    assert "not pinned" not in caplog.text


def test_another_file_than_the_pinned_is_refused_with_both_digests(publish, hub, file):
    source = publish(pinned=True)
    spoil(file)
    found = read.sha256(file)
    with pytest.raises(InputError, match=f"{found}.*{source.sha256} is expected; delete {file}"):
        sources.fetch(NAME)


def test_a_file_of_another_length_is_refused_with_both_lengths_and_digests(publish, hub, file):
    source = publish(pinned=True)
    file.write_bytes(file.read_bytes()[:-4])
    found = f"{source.size - 4} bytes and sha256 {read.sha256(file)}"
    expected = f"{source.size} bytes and sha256 {source.sha256} are expected"
    with pytest.raises(InputError, match=f"{found}.*{expected}; delete {file}"):
        sources.fetch(NAME)


def test_a_file_that_is_not_pinned_must_be_what_the_hub_states(publish, hub, file, caplog):
    publish(pinned=False)
    with caplog.at_level(logging.INFO, "dci_jax"):
        assert sources.fetch(NAME) == file
    assert hub.asked == ["file", "etag"]
    assert f"sha256 {hub.etag} is not pinned; the hub states it" in caplog.text
    hub.etag = 64 * "d"
    with pytest.raises(InputError, match=f"{read.sha256(file)}.*{hub.etag} is expected; delete"):
        sources.fetch(NAME)


@pytest.mark.parametrize("etag", [ConnectionError("no route"), None, 40 * "e"])
def test_a_file_that_nothing_vouches_for_is_whole_and_the_log_says_so(publish, hub, file, caplog, etag):
    publish(pinned=False)
    hub.etag = etag
    with caplog.at_level(logging.INFO, "dci_jax"):
        assert sources.fetch(NAME) == file
    assert f"sha256 {read.sha256(file)} is not pinned; the hub states none" in caplog.text
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(InputError, match=f"cut short.*delete {file}"):
        sources.fetch(NAME)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("Name or service not known. Try again later."),
        errors.LocalEntryNotFoundError("Not in the cache.\nAnd the hub is away."),
        PermissionError(13, "Permission denied"),
    ],
    ids=["offline", "not cached", "refused"],
)
def test_what_cannot_be_fetched_is_one_sentence_that_says_which_file_goes_where(publish, hub, error):
    source = publish(pinned=True)
    hub.file = error
    with pytest.raises(InputError) as raised:
        sources.fetch(NAME)
    message = str(raised.value)
    assert message.startswith("made/resnet20/model.safetensors could not be fetched")
    assert f"({type(error).__name__}: " in message
    assert f"download {source.url} where" in message
    assert "give its path as target.weights" in message
    assert f"{constants.HF_HOME} (HF_HOME)" in message
    assert len(re.findall(r"\.(\s|$)", message)) == 1


def test_without_the_client_the_message_names_it(publish, monkeypatch):
    import sys

    source = publish(pinned=True)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=f"pip install huggingface_hub, or download {source.url}"):
        sources.fetch(NAME)


@pytest.mark.parametrize("pinned", [True, False])
def test_a_cached_file_is_used_without_a_network(publish, cache, network, caplog, pinned):
    publish(pinned)
    with caplog.at_level(logging.INFO, "dci_jax"):
        path = sources.fetch(NAME)
    assert path == cache.entry
    assert cache.blob.name in caplog.text
    assert ("is not pinned; the hub states it" in caplog.text) is not pinned
    assert assign.load(network, path, torch_prefix).name == network.name


@pytest.mark.parametrize("pinned", [True, False])
def test_a_damaged_cached_file_is_refused_and_the_file_to_delete_named(publish, cache, pinned):
    publish(pinned)
    spoil(cache.blob)
    found = read.sha256(cache.blob)
    with pytest.raises(InputError, match=f"{found}.*{cache.blob.name} is expected; delete {cache.blob.resolve()} "):
        sources.fetch(NAME)
    cache.blob.unlink()  # the cure: nothing is left that would be taken for the file
    with pytest.raises(InputError, match="could not be fetched"):
        sources.fetch(NAME)


def test_a_store_shared_between_caches_is_not_taken_for_a_statement(publish, cache):
    publish(pinned=False)
    store = cache.blob.parents[2] / "blobs" / "ab" / f"ab{62 * '0'}"
    store.parent.mkdir(parents=True)
    cache.blob.rename(store)
    cache.blob.symlink_to(store)
    assert sources.fetch(NAME) == cache.entry
    spoil(store)
    with pytest.raises(InputError, match=f"{cache.blob.name} is expected; delete {store.resolve()} "):
        sources.fetch(NAME)


def test_a_network_without_weights_of_its_own_takes_its_first_source(publish, hub, monkeypatch):
    publish(pinned=True)
    monkeypatch.setattr(hub, "file", ConnectionError("no route"))
    with pytest.raises(InputError, match=r"made/resnet20/model\.safetensors could not be fetched"):
        models.load("cifar_resnet20", NAME)


def test_a_cached_file_with_wrong_names_is_refused_when_it_is_loaded(publish, hub, file, network):
    tensors = load_file(file)
    tensors["extra"] = tensors["bn1.bias"]
    save_file(tensors, file)
    publish(pinned=True)
    with pytest.raises(InputError, match="'extra'"):
        assign.load(network, sources.fetch(NAME), torch_prefix)
