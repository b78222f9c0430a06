"""Reads photographs back from inside a ResNet-20, without any real data.

bash launch/quickstart.sh
python -m dci_jax.main --config=configs/quickstart.py --workdir=runs/quickstart
"""

from configs import default


def get_config():
    config = default.get_config()
    config.splits = ("stem", "layer1.0", "layer1.1", "layer1.2", "layer2.0")
    config.attacks = ("dci", "dci+refine", "inverse_network", "rmle")
    config.synthesis.batches = 1
    config.synthesis.batch = 128
    config.synthesis.stages = ((32, 40),)
    config.dci.rounds = 2
    config.dci.batch = 20
    config.dci.learning_rate = 3e-3
    config.dci.divide_steps = 110
    config.dci.conquer = (("layer2.0", 150),)
    config.refine.splits = ("layer1.2", "layer2.0")
    config.refine.steps = 100
    config.rmle.splits = ("layer1.2", "layer2.0")
    config.rmle.steps = 100
    config.inverse_network.splits = ("layer1.2",)
    config.inverse_network.batch = 20
    config.inverse_network.steps = 80
    return config
