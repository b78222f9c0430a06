"""Every field of a config once, with its default, unit and meaning; `audit` has those of an audit."""

from ml_collections import ConfigDict


def default() -> ConfigDict:
    """Every field with its default: what each means is said beside it."""
    config = ConfigDict()
    config.seed = 0

    config.target = ConfigDict()
    # A key of dci_jax.models.MODELS, "bundle" of a converted PyTorch network (docs/networks.md), or your own function,
    # "module.path:function" (docs/own_network.py).
    config.target.name = "cifar_resnet20"
    # PATH of a .safetensors, .pth or .th, a bundle's folder, or a name of dci_jax.checkpoints.hub.SOURCES; empty: the
    # checkpoint in the package, or else the first source of that network.
    config.target.weights = ""
    config.target.sha256 = ""  # of the checkpoint, or its first 8 digits or more; empty: not checked
    # Side of the network's input in pixels, such as 448 for a ResNet trained at 224; 0: as it was trained.
    config.target.side = 0
    config.target.deploy = False  # the device runs the reparameterised form (RepVGG)

    config.data = ConfigDict()  # private images, for evaluation only
    # Folder, zip, npz, or "tfds:imagenet2012:validation"; empty: four photographs out of
    # scikit-image, for small networks in tiles.
    config.data.images = ""
    config.data.count = 0  # the first so many images; 0: all. Of a generator: codes to be drawn
    config.data.labels = ""  # CSV "image,label": the label map, for top-1; see dci_jax/data/images.py

    # Recorded features, an .npz with "features" [N, ...] and "split": they are read back. data.images are then the
    # originals, where they are known, and defenses names what they went through.
    config.features = ""

    config.splits = ()  # split points, such as ("layer1.2", "layer2.2"); empty: all
    # In this order; also "dci+gauss_newton", "dci_shared", "dci_trained" (and "dci_trained+refine"), "inverse_network",
    # "rmle", "deepinversion", "deep_image_prior", and "dci@white_noise" for one that learns from that source alone;
    # "adapted_dci", "adapted_dci+refine", "adapted_inverse_network", "adapted_rmle" know the defense.
    config.attacks = ("dci", "dci+refine")
    config.defenses = (("none", 0.0),)  # (kind, strength): see dci_jax/defenses/registry.py
    config.sends = (1,)  # how often an input is sent through a random defense; the attacker has all
    config.batch = 100  # private images at a time
    # Generators only: what is done to the images that are repaired, (kind, strength); see dci_jax/evaluation/corruptions.py
    config.damages = (("gaussian", 0.1), ("blur", 1.0), ("mask", 0.25), ("quantize", 8.0))

    config.defense = ConfigDict()  # bottleneck, prune_channels, nopeek, learned_noise: what they learn from
    config.defense.images = ""  # real images: folder, zip or npz; empty: those that the attacks learn from, no real one
    config.defense.steps = 200  # Adam updates at each split

    # LPIPS (v0.1, AlexNet) is measured where both are given; else it is null.
    config.lpips = ConfigDict()
    config.lpips.backbone = ""  # torchvision's AlexNet, .safetensors or .pth
    config.lpips.linear = ""  # the linear layers, alex.pth of richzhang/PerceptualSimilarity

    # When an image of the audit's page leaks: its reconstruction passes one of these thresholds, and is better than every
    # baseline of that image by a margin. The thresholds are ours; no published ones exist (docs/audit.md).
    config.audit = ConfigDict()
    config.audit.page = False  # the report is the audit's page: verdict, map, costs
    config.audit.ssim = 0.5  # after a fit of brightness and contrast
    config.audit.psnr = 20.0  # dB, after that fit
    config.audit.structure = 0.7  # correlation of detail with the image's, see dci_jax/evaluation/recognition.py
    config.audit.leaking = 0.0  # share of the images that may leak
    config.audit.label_kept = 0.95  # a defense that keeps fewer of the server's predictions is no choice

    # What the inverters learn from: shares of every batch. The paper's own setting is bank=1 and
    # the others 0, with synthesis.start="white_noise" (configs/paper.py).
    config.inputs = ConfigDict()
    config.inputs.bank = 0.0  # the synthesised images
    config.inputs.dead_leaves = 0.8
    config.inputs.pink_noise = 0.2
    config.inputs.white_noise = 0.0
    # The inverters are convolutional: trained on images of this side in pixels (the bank's are cropped
    # at random), they read back any. 0: the network's own side.
    config.inputs.side = 0

    # A filter of colours and frequencies, 66 numbers, that procedural images go through: fitted until the network's
    # early BatchNorm layers see on them what they remember.
    config.calibration = ConfigDict()
    config.calibration.steps = 60  # Adam updates; 0: none
    config.calibration.batch = 128  # procedural images
    config.calibration.learning_rate = 0.05  # Adam's, falling to 0 along a cosine
    # Black borders, in pixels, that random crops may have shown the network in its training (CIFAR's usual ones have
    # 4): each is tried, and that which fits best is taken.
    config.calibration.padding = (0, 4)

    config.synthesis = ConfigDict()
    config.synthesis.batches = 0  # 0: no image is synthesised
    config.synthesis.batch = 256  # images whose joint statistics are matched
    config.synthesis.stages = ((32, 150),)  # (side the network sees in pixels, Adam updates), ...
    config.synthesis.start = "dead_leaves"  # or "white_noise" (DeepInversion), "pink_noise"
    config.synthesis.learning_rate = 0.03  # in pixel units of [0, 1]
    config.synthesis.warmup = 0  # updates over which it rises first, in each stage
    config.synthesis.betas = (0.9, 0.999)  # Adam's
    config.synthesis.statistics = 10.0  # weight of BatchNorm-statistic matching
    config.synthesis.first = 1.0  # how much more the first BatchNorm layer counts
    config.synthesis.cross_entropy = 0.1  # weight of the answer for a random label
    config.synthesis.total_variation = 0.1
    config.synthesis.l2 = 0.0
    config.synthesis.jitter = 2  # pixels
    config.synthesis.precision = "float32"  # or "bfloat16": compute in it, statistics in float32

    # Another network that judges the synthesised images: do they look like their label to it too?
    config.verifier = ConfigDict()
    config.verifier.name = ""  # as config.target.name; empty: none
    config.verifier.weights = ""

    config.dci_trained = ConfigDict()  # inverters trained as in the paper: configs/paper.py
    config.dci_trained.width = 1.5  # hidden channels, times those of the block's wider side
    config.dci_trained.cap = 256  # but so many at most
    config.dci_trained.rounds = 4  # corrections by the block's own answer
    config.dci_trained.depth = 2  # 3x3 convolutions in each correction
    config.dci_trained.distance = "l1"  # as in the paper; or "l2", "cosine", for all three terms
    config.dci_trained.layer = 1.0  # weight of |R_i(f_i) - f_(i-1)|
    config.dci_trained.image = 1.0  # weight of |R_1(...R_k(f_k)) - x|
    config.dci_trained.cycle = 1.0  # weight of |F_i(x') - f_i|
    config.dci_trained.batch = 40  # images per step, shared by the devices
    config.dci_trained.precision = "float32"  # or "bfloat16"
    config.dci_trained.remat = False  # compute activations twice instead of keeping them
    config.dci_trained.learning_rate = 2e-3  # Adam's in divide, falling to 0 along a cosine
    config.dci_trained.divide_steps = 150
    config.dci_trained.conquer_learning_rate = 1e-3  # the same in each stage of conquer
    config.dci_trained.conquer_warmup = 20  # steps over which it rises first
    # Global norm that the gradient is cut to; inf: never.
    config.dci_trained.conquer_clip = float("inf")
    # Last steps on the deepest split alone, in a chain of its own.
    config.dci_trained.deepest_steps = 0
    config.dci_trained.conquer = (("layer1.2", 100), ("layer2.2", 300), ("layer3.2", 450))  # stages

    # "dci", a chain of solved inverters for each split, and "dci_shared", one chain for all of them.
    config.dci = ConfigDict()
    config.dci.splits = ()  # empty: all of config.splits
    config.dci.images = 1152  # that a map is solved on, at most
    config.dci.held_out = 128  # procedural ones that choose ridge and number of corrections
    config.dci.batch = 64  # images at a time, shared by the devices
    config.dci.rounds = 6  # corrections by the block's own answer, at most
    config.dci.size = 5  # pixels, the side of a map's neighbourhood at most
    # Of a first map, of a correction: where side^2 channels are more, the side is less.
    config.dci.unknowns = (10000, 7000)
    config.dci.equations = 100  # pixels for each unknown: where fewer images have so many, they do

    config.refine = ConfigDict()  # dci+refine: rMLE started from DCI's reconstruction
    config.refine.splits = ()  # empty: all of config.splits
    config.refine.num_splits = 0  # where splits is empty: so many of config.splits, evenly spaced; 0: all
    config.refine.steps = 300
    config.refine.learning_rate = 0.02  # in pixel units of [0, 1], falling to 0
    config.refine.total_variation = 0.03  # relative to the relative feature distance

    config.refine.total_variation_at = ()  # ((split, weight), ...) where it is another
    # A prior on images of your own, "module.path:function" (docs/own_prior.py); empty: none.
    config.refine.prior = ""
    config.refine.prior_weight = 0.0

    config.rmle = ConfigDict()  # from a blank image, with AMSGrad
    config.rmle.splits = ()
    config.rmle.num_splits = 0
    config.rmle.steps = 5000
    config.rmle.learning_rate = 0.02
    config.rmle.total_variation = 0.03
    config.rmle.total_variation_at = ()
    config.rmle.prior = ""
    config.rmle.prior_weight = 0.0

    config.deepinversion = ConfigDict()  # rMLE with the network's BatchNorm statistics as its prior
    config.deepinversion.splits = ()
    config.deepinversion.num_splits = 0
    config.deepinversion.steps = 2000
    config.deepinversion.learning_rate = 0.02
    config.deepinversion.total_variation = 0.03
    config.deepinversion.statistics = 0.1  # relative to the relative feature distance

    config.deep_image_prior = ConfigDict()  # an untrained network for each image
    config.deep_image_prior.splits = ()
    config.deep_image_prior.num_splits = 0
    config.deep_image_prior.width = 32
    config.deep_image_prior.levels = 3  # halvings; the image's side must be divisible so often
    config.deep_image_prior.steps = 2000
    config.deep_image_prior.learning_rate = 0.01
    config.deep_image_prior.total_variation = 0.0

    # "gauss_newton", and "dci+gauss_newton" from DCI's answer: images or codes.
    config.gauss_newton = ConfigDict()
    config.gauss_newton.splits = ()
    config.gauss_newton.num_splits = 0
    config.gauss_newton.steps = 10
    config.gauss_newton.inner = 30  # conjugate gradients in each step; for codes it is solved exactly
    config.gauss_newton.damping = 1e-2  # at the start, relative to the mean square of J's columns
    # Weights of TV, relative to the relative feature distance: procedural images choose one at each split.
    config.gauss_newton.total_variation = (0.0, 0.01, 0.1, 1.0)
    config.gauss_newton.held_out = 8  # procedural images that choose

    config.inverse_network = ConfigDict()
    config.inverse_network.splits = ()
    config.inverse_network.num_splits = 0
    config.inverse_network.width = 32  # hidden channels at full resolution, doubled per halving
    config.inverse_network.batch = 32
    config.inverse_network.precision = "float32"
    config.inverse_network.learning_rate = 2e-3
    config.inverse_network.steps = 1000

    # The oracle: an attack trained on real images of the private ones' distribution. An upper
    # reference, and not data-free. Images that are also evaluated are left out.
    config.oracle = ConfigDict()
    config.oracle.images = ""  # folder, zip or npz; empty: no oracle
    config.oracle.attack = "dci"  # or "dci_trained", "inverse_network"
    return config


def audit() -> ConfigDict:
    """The settings of an audit: differences from `default`."""
    config = default()
    config.attacks = (
        "dci",
        "adapted_dci",
        "adapted_dci+refine",
        "adapted_dci+gauss_newton",
        "adapted_inverse_network",
    )
    config.defenses = (
        ("none", 0.0),
        ("gaussian", 1.0),
        ("laplace", 0.5),
        ("dropout", 0.5),
        ("quantize", 8.0),
        ("quantize", 4.0),
        ("quantize", 2.0),
        ("quantize", 1.0),
        ("topk", 0.1),
        ("topk_channels", 0.25),
        ("jpeg", 50.0),
        ("prune_channels", 0.5),
        ("bottleneck", 4.0),
        ("nopeek", 1.0),
        ("learned_noise", 1.0),
    )
    config.sends = (1, 10)
    config.audit.page = True
    config.defense.steps = 100
    config.dci.images = 96
    config.dci.held_out = 32
    config.dci.batch = 32
    config.dci.rounds = 2
    config.dci.equations = 40
    config.dci.size = 3
    config.dci.unknowns = (3000, 1500)  # corrections in layer3 look at single pixels: many cells are to be solved
    # The attackers that take minutes, at the middle one of the split points.
    config.refine.num_splits = config.inverse_network.num_splits = config.gauss_newton.num_splits = 1
    config.refine.steps = 100
    config.gauss_newton.update(steps=5, inner=20, total_variation=(0.0, 0.1, 1.0))
    config.inverse_network.steps = 100
    config.inverse_network.width = 16
    return config
