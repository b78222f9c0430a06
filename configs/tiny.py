"""The whole pipeline in seconds, for the tests: its numbers mean nothing."""

from configs import default


def get_config():
    config = default.get_config()
    config.splits = ("stem", "layer1.0")
    config.attacks = ("dci", "dci+refine", "inverse_network", "rmle")
    config.synthesis.batches = 2
    config.synthesis.batch = 4
    config.synthesis.stages = ((32, 2),)
    config.dci.rounds = 1
    config.dci.batch = 10
    config.dci.divide_steps = 2
    config.dci.conquer = (("stem", 2), ("layer1.0", 2))
    config.refine.steps = 2
    config.rmle.steps = 2
    config.inverse_network.steps = 2
    config.inverse_network.width = 8
    return config
