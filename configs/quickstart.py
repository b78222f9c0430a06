"""Reads photographs back from inside a ResNet-20, without any real data.

bash launch/quickstart.sh
python -m dci_jax.main --config=configs/quickstart.py --workdir=runs/quickstart
"""

from configs import default


def get_config():
    config = default.get_config()
    config.splits = ("stem", "layer1.2", "layer2.0")
    config.attacks = ("dci", "dci+refine", "inverse_network", "rmle")
    config.dci.images = 256
    config.dci.held_out = 64
    config.dci.rounds = 4
    config.dci.size = 3
    config.refine.splits = ("layer1.2", "layer2.0")
    config.refine.steps = 100
    config.rmle.splits = ("layer1.2", "layer2.0")
    config.rmle.steps = 100
    config.inverse_network.splits = ("layer1.2",)
    config.inverse_network.batch = 20
    config.inverse_network.steps = 80
    return config
