"""What several tests share: a small network, the tiny config, and paths that may be absent."""

import fcntl
import gc
import os
import shutil
import signal

import jax
import numpy as np
import pytest
from PIL import Image

from dci_jax.checkpoints import assign
from dci_jax.models.cifar_resnet import cifar_resnet, torch_prefix
from dci_jax.models.sngan import sngan
from dci_jax.runtime import process, training_loop
from tests.command_line import QUICK_COMPILER, ROOT, call

process.prepare()
# Of a background job Ctrl-C is ignored, and by the processes that tests start would be, too.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = ROOT.parent / "shared" / "data"


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also kills, many processes, trainings and PyTorch")


def pytest_configure(config):
    """Programs of tests run for milliseconds and take the compiler seconds; processes that they start do the same."""
    os.environ["XLA_FLAGS"] += f" {QUICK_COMPILER}"


def pytest_collection_finish(session):
    """Python looks for garbage less often, and not among the modules: tracing makes many small objects that stay."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def pytest_collection_modifyitems(config, items):
    """Long tests are left out without --slow, and come first with it, so that no worker waits for them at the end."""
    slow = [item for item in items if item.get_closest_marker("slow")]
    quick = [item for item in items if not item.get_closest_marker("slow")]
    if not config.getoption("--slow"):
        config.hook.pytest_deselected(items=slow)
        slow = []
    items[:] = slow + quick


@pytest.fixture(autouse=True, scope="session")
def compilation_cache(pytestconfig):
    """The same programs are compiled once for all tests, in all workers and processes, and for the next run of the tests."""
    folder = str(pytestconfig.cache.mkdir("jax"))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder  # of the processes that tests start
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.05"
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)


@pytest.fixture(autouse=True, scope="session")
def no_onednn():
    """Steps of training are compiled without oneDNN, with which no program can be kept in the cache; `onednn_test` has it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_loop, "options", lambda: None)
        yield


@pytest.fixture(scope="session")
def network():
    """A ResNet-8 for 32 px, a block in each stage, with random weights and BatchNorm statistics that are not the initial ones."""
    return shaken(cifar_resnet(jax.random.key(0), depth=8))


@pytest.fixture(scope="session")
def network20():
    """The same with the blocks of a ResNet-20."""
    return shaken(cifar_resnet(jax.random.key(0), depth=20))


def shaken(network):
    """With BatchNorm parameters and statistics, and biases, that are not the initial ones."""
    rng = np.random.default_rng(0)

    def shake(path, leaf):
        name = path[-1].key
        if name in ("mean", "bias"):
            return leaf + rng.normal(0, 0.1, leaf.shape).astype(np.float32)
        if name in ("var", "scale"):
            return leaf * rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        return leaf

    return jax.tree_util.tree_map_with_path(shake, network)


def narrow_generator(source=""):
    """An SNGAN for 32 px with few channels and random weights, as --config.target.name names one's own."""
    return shaken(sngan(jax.random.key(1), 32, ngf=16))


@pytest.fixture(scope="session")
def generator():
    """`narrow_generator`, made once."""
    return narrow_generator()


@pytest.fixture
def images():
    """Two images [2, 32, 32, 3] in [0, 1]."""
    return np.random.default_rng(1).uniform(size=(2, 32, 32, 3)).astype(np.float32)


@pytest.fixture
def browser():
    """Chromium without a window; tests that want it skip where it is absent."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium") or shutil.which("google-chrome")
    if not driver or not chromium:
        pytest.skip("needs chromium and chromedriver on the PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield opened
    opened.quit()


@pytest.fixture(scope="session")
def shared():
    """The folder of published weights and images; tests that want it skip where it is absent."""
    if not SHARED.exists():
        pytest.skip("needs the published weights and images, which are not part of this project")
    return SHARED


@pytest.fixture(scope="session")
def place(tmp_path_factory, network):
    """A folder with a checkpoint, three private images and a damaged one."""
    folder = tmp_path_factory.mktemp("place")
    assign.save(network, folder / "target.safetensors", torch_prefix, {})
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        pixels = rng.integers(0, 255, (40, 36, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{name}.png")
    (folder / "images" / "broken.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="session")
def finished(place, tmp_path_factory):
    """The workdir of an undisturbed run of configs/tiny.py on one device: one for all workers, each of which has a copy."""
    shared = tmp_path_factory.getbasetemp().parent / "finished"
    with shared.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not shared.exists():
            done = call(place, place / "run")
            assert done.returncode == 0, done.stderr
            shutil.copytree(place / "run", shared)
    if not (place / "run").exists():
        shutil.copytree(shared, place / "run")
    return place / "run"
