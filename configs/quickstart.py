"""Reads photographs back from inside a ResNet-20, without any real data.

bash launch/quickstart.sh
python -m dci_jax.main --config=configs/quickstart.py --workdir=runs/quickstart

65 seconds on two idle CPU cores of a slow machine (2026-12-01). To expect, PSNR in dB: stem 45.1, layer1.2 32.7, layer2.0 27.5, refined 35.0.
"""

from configs import default


def get_config():
    config = default.get_config()
    config.splits = ("stem", "layer1.2", "layer2.0")
    config.batch = 16  # few enough for the cache of a CPU core
    config.attacks = ("dci", "dci+refine", "rmle")
    config.dci.num_images = 128
    config.dci.num_validation = 32
    config.dci.batch = 32
    config.dci.num_corrections = 2
    config.dci.kernel_size = 3
    config.refine.splits = config.rmle.splits = ("layer2.0",)
    config.refine.steps = config.rmle.steps = 200
    config.refine.total_variation = (0.03,)  # nothing to choose, which takes time
    return config
