"""The live page: what it computes, and the page itself in a browser."""

import sys
import urllib.error
import urllib.request

import jax
import numpy as np
import pytest
from PIL import Image

import dci_jax
from dci_jax import demo
from dci_jax.inputs.mixture import Prior

PICTURE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)


@pytest.fixture(scope="module")
def chain(network):
    prior = Prior((), (("pink_noise", 1.0),), (32, 32, 3))
    settings = dict(num_images=32, num_validation=16, batch_size=16, num_corrections=0, kernel_size=3)
    return dci_jax.solve_chain(network, "layer1.0", prior, key=jax.random.key(0), progress=False, **settings)


@pytest.mark.parametrize("defense", demo.DEFENSES)
def test_a_picture_is_cropped_sent_and_read_back(network, chain, defense):
    device, server, found, said = demo.read_back(network, chain, PICTURE, defense, demo.strength(defense, 0.3))
    assert device.shape == found.shape == (256, 256, 3)
    assert server.shape == (256, 256)  # 4 x 4 channels of 32 px, twice as large
    assert "dB PSNR" in said
    centre = np.asarray(Image.fromarray(PICTURE).resize((32, 32), Image.Resampling.BICUBIC, (10, 0, 50, 40)))
    np.testing.assert_allclose(device[::8, ::8], centre, atol=1)


def test_a_montage_has_every_channel_once_and_constant_ones_are_black():
    features = np.zeros((1, 2, 3, 5), np.float32)
    features[..., :3] = np.arange(18).reshape(2, 3, 3)
    found = demo.montage(features)
    assert found.shape == (4, 9)
    assert (found == 255).sum() == 3
    assert found.dtype == np.uint8


def test_a_folder_that_is_no_run_is_one_sentence(tmp_path, capsys):
    pytest.importorskip("gradio", reason="pip install 'dci_jax[demo]'")
    assert demo.main([f"--workdir={tmp_path}"]) == 2
    assert "dci-jax demo: " in capsys.readouterr().err


@pytest.mark.slow
def test_the_page_reads_a_picture_back_in_a_browser_and_refuses_another_origin(
    network, chain, browser, tmp_path, monkeypatch
):
    pytest.importorskip("gradio", reason="pip install 'dci_jax[demo]'")
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "kept"))
    Image.fromarray(PICTURE).save(tmp_path / "picture.png")
    blocks = demo.page(network, ("layer1.0",), lambda split: chain)
    _, url, shared = blocks.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, strict_cors=True)
    try:
        assert shared is None
        assert url.startswith("http://127.0.0.1:")
        asked = urllib.request.Request(url + "config", headers={"Origin": "https://elsewhere.example"})
        try:
            allowed = urllib.request.urlopen(asked).headers.get("Access-Control-Allow-Origin")
        except urllib.error.HTTPError as error:
            allowed = error.headers.get("Access-Control-Allow-Origin")
        assert allowed in (None, "null")
        browser.get(url)
        wait = WebDriverWait(browser, 60)
        wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, "#picture input[type=file]"))
        browser.find_element(By.CSS_SELECTOR, "#picture input[type=file]").send_keys(str(tmp_path / "picture.png"))
        wait.until(lambda b: "dB PSNR" in b.find_element(By.ID, "said").text)
        wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, "#found img"))
        assert "layer1.0" in browser.find_element(By.ID, "said").text
    finally:
        blocks.close()


def test_without_gradio_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert demo.main([]) == 2
    assert "pip install 'dci_jax[demo]'" in capsys.readouterr().err
