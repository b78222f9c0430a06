"""A sweep of eight points over what the inverters cost: width and rounds, at two seeds, in minutes on a CPU.

python -m launch.sweep local --config=configs/sweep_inverters.py --workdir=runs/sweep_inverters --jobs=2
"""

from configs import quickstart


def get_config():
    config = quickstart.get_config()
    config.splits = ("stem", "layer1.0", "layer1.2")
    config.attacks = ("dci_trained",)
    config.defenses = (("none", 0.0), ("gaussian", 0.3), ("quantize", 2.0))
    config.inputs.update(synthetic=0.3, dead_leaves=0.5, pink_noise=0.2)
    config.prior_fitting.steps = 0  # configs/paper.py has none
    config.synthesis.batches = 1
    config.synthesis.batch = 64
    config.synthesis.stages = ((32, 30),)
    config.dci_trained.batch = 12
    config.dci_trained.learning_rate = 3e-3
    config.dci_trained.divide_steps = 80
    config.dci_trained.conquer = (("layer1.2", 60),)
    return config


def get_hyper(hyper):
    return hyper.product(
        [
            hyper.sweep("config.dci_trained.width", [0.5, 1.5]),
            hyper.sweep("config.dci_trained.num_corrections", [1, 3]),
            hyper.sweep("config.seed", [0, 1]),
        ]
    )
