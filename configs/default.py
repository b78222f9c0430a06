"""Every field once, with its unit and meaning. The other configs give differences only.

    python -m dci_jax.main --config=configs/default.py --workdir=runs/default

This is the full data-free audit of the embedded ResNet-20 at every split point.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0

    config.target = ConfigDict()
    config.target.name = "cifar_resnet20"  # a key of dci_jax.models.MODELS
    config.target.weights = ""  # .safetensors, .pth or .th; empty: the checkpoint in the package

    config.data = ConfigDict()  # private images, for evaluation only
    config.data.images = ""  # folder, zip or npz; empty: photographs out of scikit-image, in tiles
    config.data.count = 0  # the first so many images; 0: all

    config.splits = ()  # split points, such as ("layer1.2", "layer2.2"); empty: all
    config.attacks = ("dci", "dci+refine")  # in this order; also "inverse_network", "rmle"
    config.defenses = (("none", 0.0),)  # (kind, strength): see dci_jax/defenses.py
    config.batch = 100  # private images at a time

    # What the inverters learn from: shares of every batch. The paper's own setting is bank=1 and
    # the others 0, with synthesis.start="white_noise".
    config.inputs = ConfigDict()
    config.inputs.bank = 0.3  # the synthesised images
    config.inputs.dead_leaves = 0.5
    config.inputs.pink_noise = 0.2
    config.inputs.white_noise = 0.0

    config.synthesis = ConfigDict()
    config.synthesis.batches = 3
    config.synthesis.batch = 256  # images whose joint statistics are matched
    config.synthesis.steps = 150  # Adam updates per batch
    config.synthesis.start = "dead_leaves"  # or "white_noise" (DeepInversion), "pink_noise"
    config.synthesis.learning_rate = 0.03  # in pixel units of [0, 1]
    config.synthesis.statistics = 10.0  # weight of BatchNorm-statistic matching
    config.synthesis.cross_entropy = 0.1  # weight of the answer for a random label
    config.synthesis.total_variation = 0.1
    config.synthesis.l2 = 0.0
    config.synthesis.jitter = 2  # pixels

    config.dci = ConfigDict()
    config.dci.width = 1.5  # hidden channels, times those of the block's wider side
    config.dci.rounds = 4  # corrections by the block's own answer
    config.dci.depth = 2  # 3x3 convolutions in each correction
    config.dci.distance = "l1"  # "l1" as in the paper, "l2" or "cosine", for all three terms
    config.dci.layer = 1.0  # weight of |R_i(f_i) - f_(i-1)|
    config.dci.image = 1.0  # weight of |R_1(...R_k(f_k)) - x|
    config.dci.cycle = 1.0  # weight of |F_i(x') - f_i|
    config.dci.batch = 40  # images per step
    config.dci.learning_rate = 2e-3  # Adam's in divide, falling to 0 along a cosine
    config.dci.divide_steps = 150
    config.dci.conquer_learning_rate = 2e-3  # the same in each stage of conquer
    config.dci.conquer = (("layer1.2", 100), ("layer2.2", 300), ("layer3.2", 450))  # stages

    config.refine = ConfigDict()  # dci+refine: rMLE started from DCI's reconstruction
    config.refine.splits = ()  # empty: all of config.splits
    config.refine.steps = 300
    config.refine.learning_rate = 0.02  # in pixel units of [0, 1], falling to 0
    config.refine.total_variation = 0.03  # relative to the relative feature distance

    config.rmle = ConfigDict()  # from a grey image
    config.rmle.splits = ()
    config.rmle.steps = 2000
    config.rmle.learning_rate = 0.02
    config.rmle.total_variation = 0.03

    config.inverse_network = ConfigDict()
    config.inverse_network.splits = ()
    config.inverse_network.width = 32  # hidden channels at full resolution, doubled per halving
    config.inverse_network.batch = 32
    config.inverse_network.learning_rate = 2e-3
    config.inverse_network.steps = 1000

    # The oracle: an attack trained on real images of the private ones' distribution. An upper
    # reference, and not data-free. Images that are also evaluated are left out.
    config.oracle = ConfigDict()
    config.oracle.images = ""  # folder, zip or npz; empty: no oracle
    config.oracle.attack = "dci"  # or "inverse_network"
    return config
