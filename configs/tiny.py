"""The whole pipeline in seconds, for the tests: its numbers mean nothing."""

from configs import default


def get_config():
    config = default.get_config()
    config.splits = ("stem", "layer1.0")
    config.attacks = ("dci_trained", "dci_trained+refine", "inverse_network", "rmle")
    config.inputs.update(synthetic=0.3, dead_leaves=0.5, pink_noise=0.2)
    config.prior_fitting.steps = 0
    config.synthesis.batches = 2
    config.synthesis.batch = 4
    config.synthesis.stages = ((32, 2),)
    config.dci_trained.num_corrections = 1
    config.dci_trained.batch = 10
    config.dci_trained.divide_steps = 2
    config.dci_trained.conquer = (("stem", 2), ("layer1.0", 2))
    config.refine.steps = 2
    config.refine.total_variation = (0.03,)
    config.rmle.steps = 2
    config.inverse_network.steps = 2
    config.inverse_network.width = 8
    return config
