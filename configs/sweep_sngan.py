"""What inverters suit an SNGAN: width, rounds and depth in short trainings, on codes that no other run evaluates.

python -m launch.sweep local --config=configs/sweep_sngan.py --workdir=runs/sweep_sngan --jobs=1
"""

from configs import sngan_narrow


def get_config():
    config = sngan_narrow.get_config()
    config.seed = 1
    config.attacks = ("dci",)
    config.data.count = 200
    config.damages = ()
    config.dci.batch = 60
    config.dci.divide_steps = 100
    config.dci.conquer = (("image", 500),)
    config.dci.deepest_steps = 0
    return config


def get_hyper(hyper):
    return hyper.zipit(
        [
            hyper.sweep("config.dci.width", [1.0, 3.0, 3.0]),
            hyper.sweep("config.dci.rounds", [1, 1, 2]),
            hyper.sweep("config.dci.depth", [3, 3, 2]),
        ]
    )
