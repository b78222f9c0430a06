"""Reads photographs back from inside a ResNet-20, without any real data.

bash launch/quickstart.sh
python -m dci_jax.main --config=configs/quickstart.py --workdir=runs/quickstart

61 seconds on two idle CPU cores (2026-11-26). To expect, PSNR in dB: stem 43.3, layer1.2 32.0, layer2.0 27.3, refined 34.8.
"""

from configs import default


def get_config():
    config = default.get_config()
    config.splits = ("stem", "layer1.2", "layer2.0")
    config.attacks = ("dci", "dci+refine", "rmle")
    config.dci.num_images = 128
    config.dci.num_validation = 32
    config.dci.batch = 32
    config.dci.num_corrections = 2
    config.dci.kernel_size = 3
    config.refine.splits = config.rmle.splits = ("layer2.0",)
    config.refine.steps = config.rmle.steps = 200
    return config
