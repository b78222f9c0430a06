"""What inverters suit an SNGAN: width, rounds and depth in short trainings, on latents that no other run evaluates.

python -m launch.sweep local --config=configs/sweep_sngan.py --workdir=runs/sweep_sngan --jobs=1
"""

from configs import sngan_narrow


def get_config():
    config = sngan_narrow.get_config()
    config.seed = 1
    config.attacks = ("dci_trained",)
    config.data.count = 200
    config.corruptions = ()
    config.dci_trained.batch = 60
    config.dci_trained.divide_steps = 100
    config.dci_trained.conquer = (("image", 500),)
    config.dci_trained.deepest_steps = 0
    return config


def get_hyper(hyper):
    return hyper.zipit(
        [
            hyper.sweep("config.dci_trained.width", [1.0, 3.0, 3.0]),
            hyper.sweep("config.dci_trained.num_corrections", [1, 1, 2]),
            hyper.sweep("config.dci_trained.depth", [3, 3, 2]),
        ]
    )
