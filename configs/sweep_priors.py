"""What deepinversion and the deep image prior should weigh, on dead leaves: as `configs/baselines.py` has them.

python -m benchmarks.held_out held_out.npz 16
python -m launch.sweep local --config=configs/sweep_priors.py --workdir=runs/sweep_priors --jobs=1 --config.data.images=held_out.npz
"""

from configs import default


def get_config():
    config = default.get_config()
    config.attacks = ("deepinversion",)
    config.splits = ("layer1.2", "layer2.2")
    config.synthesis.batches = 0
    config.inputs.update(bank=0.0, dead_leaves=1.0, pink_noise=0.0)
    config.deepinversion.steps = 600
    config.deep_image_prior.steps = 600
    return config


def get_hyper(hyper):
    statistics = hyper.sweep("config.deepinversion.statistics", [0.0, 0.01, 0.1, 1.0])
    smooth = hyper.sweep("config.deep_image_prior.total_variation", [0.0, 0.03])
    rates = hyper.sweep("config.deep_image_prior.learning_rate", [3e-3, 1e-2])
    prior = hyper.fixed("config.attacks", ("deep_image_prior",))
    return statistics + hyper.product([prior, smooth, rates])
