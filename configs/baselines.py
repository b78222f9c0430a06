"""Every attack on one network, a few images, at an early and a late split: how they compare, and what they cost.

    python -m dci_jax.main --config=configs/baselines.py --workdir=runs/baselines \\
        --config.target.weights=resnet20-12fca82f.th --config.data.images=lossless_3000.npz

Eight images, because the attacks that optimise each image take minutes. Inverters are solved on fewer inputs than in
configs/cifar_resnet20.py, and the trainings are short, so the level of those rows is lower than there.
"""

from configs import default


def get_config():
    config = default.get_config()
    config.splits = ("layer1.2", "layer2.2")
    config.attacks = (
        "dci",
        "dci+refine",
        "dci+gauss_newton",
        "dci_trained",
        "inverse_network",
        "rmle",
        "deepinversion",
        "deep_image_prior",
    )
    config.data.count = 8
    config.inputs.update(synthetic=0.3, dead_leaves=0.5, pink_noise=0.2)
    config.synthesis.batches = 2
    config.synthesis.batch = 128
    config.dci_trained.num_corrections = 2
    config.dci_trained.batch = 28
    config.dci_trained.divide_steps = 100
    config.dci_trained.conquer = (("layer1.2", 80), ("layer2.2", 200))
    config.inverse_network.steps = 400
    config.deep_image_prior.splits = ("layer1.2",)  # a network for each image: minutes on a CPU
    config.deep_image_prior.steps = 500
    return config
