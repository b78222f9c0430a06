"""Every field of a config, in one table: default, range and meaning; docs/fields.md is made from it."""

import math
from dataclasses import dataclass
from typing import Any

from dci_jax.settings.ranges import (
    BETA,
    COUNT,
    POINTS,
    POSITIVE,
    PRECISION,
    RATE,
    SHARE,
    SOME,
    WEIGHT,
    WEIGHTS_AT,
    Choice,
    Form,
    Range,
    Rows,
    Several,
)


@dataclass(frozen=True)
class Field:
    """A field of a config.

    Attributes:
      default: its value if none is given.
      form: its allowed values.
      meaning: what it does, with its unit.
    """

    default: Any
    form: Form
    meaning: str


_ITS_POINTS = "split points to attack; empty: all of `splits`"
_SO_MANY = "number of the run's split points to attack, evenly spaced, if the section's `splits` is empty; 0: all"
_TV = "weight of total variation per pixel, relative to the relative feature distance"
_CANDIDATES = (
    "candidate weights of total variation, relative to the relative feature distance; procedural images select one at each "
    "split point"
)
_TV_AT = "((split point, weight), ...): other weights of total variation at these split points"
_PRIOR = 'your own prior on images, "module.path:function" (docs/own_prior.py); empty: none'
_FALLING = "initial learning rate of Adam; decays to 0 on a cosine schedule"
_PIXEL_RATE = "initial learning rate, in pixel units of [0, 1]; decays to 0 on a cosine schedule"
_MIXED = "of products and convolutions; bfloat16 is mixed precision"

# A new field is one line here; page.py describes each section.
FIELDS = {
    "seed": Field(0, Range(0, 2**32 - 1, whole=True), "the seed of all random numbers"),
    "target.name": Field(
        "cifar_resnet20",
        str,
        'a key of dci_jax.models.MODELS; "bundle" for a converted PyTorch network (docs/networks.md); or your own '
        'function, "module.path:function" (docs/own_network.py)',
    ),
    "target.weights": Field(
        "",
        str,
        "path of a .safetensors, .pth or .th, a bundle's folder, or a name of dci_jax.checkpoints.hub.SOURCES; empty: "
        "the checkpoint in the package, or else the first source of that network",
    ),
    "target.sha256": Field("", str, "SHA-256 of the checkpoint, or at least its first 8 digits; empty: not checked"),
    "target.weights_key": Field(
        "",
        str,
        'key of the weights in a .pth or .ckpt, such as "state_dict_ema"; empty: "state_dict" or "model", else averaged weights',
    ),
    "target.side": Field(
        0, SOME, "side of the input in pixels, such as 448 for a ResNet trained at 224; 0: as trained"
    ),
    "target.deploy": Field(False, bool, "the device runs the reparameterised form (RepVGG)"),
    "data.images": Field(
        "",
        str,
        'folder, zip, npz, or "tfds:imagenet2012:validation"; empty: four photographs of scikit-image, cut '
        "into tiles for small networks",
    ),
    "data.count": Field(
        0, SOME, "number of images to read, from the first on; 0: all. For a generator: number of latents to draw"
    ),
    "data.labels": Field("", str, 'CSV "image,label", for top-1 (dci_jax/data/images.py); empty: no labels'),
    "features": Field(
        "",
        str,
        'an .npz of recorded features to reconstruct from, with "features" [N, ...] and "split". data.images are '
        "then the originals, if known, and `defenses` names the defense that was applied",
    ),
    "splits": Field((), POINTS, 'split points, such as ("layer1.2", "layer2.2"); empty: `num_splits` of them'),
    "num_splits": Field(
        0, SOME, "number of split points if `splits` is empty, evenly spaced by the device's operations; 0: all"
    ),
    "attacks": Field(
        ("dci", "dci+refine"),
        Rows((str,), "('dci', 'rmle')"),
        'attacks, in order; also "dci+gauss_newton", "dci+unet", "dci_shared", "dci_trained" (and "dci_trained+refine"), '
        '"inverse_network", "rmle", "deepinversion", "deep_image_prior"; "dci@white_noise" learns from that source '
        'alone; "adapted_dci", "adapted_dci+refine", "adapted_inverse_network" and "adapted_rmle" know the defense; '
        'your own is "module.path:object" (docs/own_attack.py)',
    ),
    "defenses": Field(
        (("none", 0.0),),
        Rows((str, float), "(('none', 0.0), ('gaussian', 0.5))"),
        '(kind, strength) of each (dci_jax/defenses/registry.py); your own kind is "module.path:object" '
        "(docs/own_defense.py)",
    ),
    "num_queries": Field(
        (1,),
        Rows((int,), "(1, 10)", Range(1, 1000, whole=True)),
        "how often each input is sent through a random defense; the attacker receives every result",
    ),
    "batch": Field(100, COUNT, "private images per batch"),
    "corruptions": Field(
        (("gaussian", 0.1), ("blur", 1.0), ("mask", 0.25), ("quantize", 8.0)),
        Rows((str, float), "(('blur', 1.0),)"),
        "generators only: (kind, strength) of each corruption of the images to repair "
        "(dci_jax/evaluation/corruptions.py)",
    ),
    "defense.images": Field(
        "", str, "real images to learn from: folder, zip or npz; empty: those the attacks learn from, none real"
    ),
    "defense.steps": Field(200, COUNT, "Adam updates at each split point"),
    "lpips.backbone": Field("", str, "torchvision's AlexNet, a .safetensors or .pth"),
    "lpips.linear": Field("", str, "the linear layers, alex.pth of richzhang/PerceptualSimilarity"),
    "audit.page": Field(False, bool, "the report is the audit's page: verdict, map, costs"),
    "audit.system": Field(
        "", str, "what is audited: product, version, deployment; printed on the page, as the next two are"
    ),
    "audit.assessor": Field("", str, "who audits, and for which organisation"),
    "audit.criterion": Field(
        "", str, "the owner's criterion in words, who set it and when; the thresholds below are its numbers"
    ),
    "audit.previous": Field("", str, "an earlier audit to compare with: its workdir, or the folder of its report"),
    "audit.ssim": Field(0.5, SHARE, "SSIM after a fit of brightness and contrast"),
    "audit.psnr": Field(20.0, WEIGHT, "PSNR in dB, after the same fit"),
    "audit.structure": Field(
        0.7,
        Range(0, 1, above=True),
        "correlation of the reconstruction's detail with the image's (dci_jax/evaluation/recognition.py)",
    ),
    "audit.leaking": Field(0.0, SHARE, "the share of the images that may leak"),
    "audit.server_agreement": Field(
        0.95, SHARE, "minimum share of the server's predictions that a recommended defense preserves"
    ),
    "inputs.synthetic": Field(0.0, WEIGHT, "share of synthesised images"),
    "inputs.dead_leaves": Field(0.8, WEIGHT, "share of dead leaves: shapes that occlude one another"),
    "inputs.pink_noise": Field(0.2, WEIGHT, "share of 1/f noise"),
    "inputs.white_noise": Field(0.0, WEIGHT, "share of uniform noise"),
    "inputs.side": Field(
        0,
        SOME,
        "side in pixels of the inputs to learn from (synthesized images are cropped at random); convolutional inverters reconstruct "
        "any side; 0: the network's own",
    ),
    "prior_fitting.steps": Field(60, SOME, "Adam updates; 0: leave the procedural images unchanged"),
    "prior_fitting.batch": Field(128, COUNT, "procedural images in each update"),
    "prior_fitting.learning_rate": Field(0.05, RATE, _FALLING),
    "prior_fitting.padding": Field(
        (0, 4),
        Rows((int,), "(0, 4)", SOME),
        "candidate widths, in pixels, of the black border in the network's randomly cropped training images (usually 4 "
        "for CIFAR); the best fit is used",
    ),
    "synthesis.batches": Field(0, SOME, "number of batches; 0: no image is synthesised"),
    "synthesis.batch": Field(256, COUNT, "images in each batch; their joint statistics are matched"),
    "synthesis.stages": Field(
        ((32, 150),),
        Rows((int, int), "((32, 150),)", COUNT),
        "((side in pixels at the network's input, Adam updates), ...)",
    ),
    "synthesis.start": Field(
        "dead_leaves",
        Choice(("dead_leaves", "pink_noise", "white_noise")),
        "initial images; white_noise in DeepInversion",
    ),
    "synthesis.learning_rate": Field(0.03, RATE, _PIXEL_RATE),
    "synthesis.warmup": Field(0, SOME, "warmup updates of the learning rate in each stage"),
    "synthesis.betas": Field((0.9, 0.999), Several(BETA, 2), "Adam's b1 and b2"),
    "synthesis.statistics": Field(10.0, WEIGHT, "weight of the BatchNorm statistics"),
    "synthesis.first": Field(1.0, WEIGHT, "weight of the first BatchNorm layer, relative to the others"),
    "synthesis.cross_entropy": Field(0.1, WEIGHT, "weight of the cross-entropy with a random label"),
    "synthesis.total_variation": Field(0.1, WEIGHT, "weight of total variation"),
    "synthesis.l2": Field(0.0, WEIGHT, "weight of the mean square distance from grey"),
    "synthesis.jitter": Field(2, SOME, "largest shift of the images in each update, in pixels"),
    "synthesis.precision": Field("float32", PRECISION, _MIXED + "; statistics stay float32"),
    "verifier.name": Field("", str, "as target.name; empty: none"),
    "verifier.weights": Field("", str, "as target.weights"),
    "dci_trained.width": Field(1.5, POSITIVE, "hidden channels, as a multiple of those of the block's wider side"),
    "dci_trained.cap": Field(256, Range(8, 2**14, whole=True), "hidden channels at most"),
    "dci_trained.num_corrections": Field(4, Range(1, 100, whole=True), "corrections with the block's own output"),
    "dci_trained.depth": Field(2, Range(1, 100, whole=True), "3x3 convolutions in each correction"),
    "dci_trained.distance": Field("l1", Choice(("l1", "l2", "cosine")), "distance in all three terms; l1 in the paper"),
    "dci_trained.layer": Field(1.0, WEIGHT, "weight of |R_i(f_i) - f_(i-1)|"),
    "dci_trained.image": Field(1.0, WEIGHT, "weight of |R_1(...R_k(f_k)) - x|"),
    "dci_trained.cycle": Field(1.0, WEIGHT, "weight of |F_i(x') - f_i|"),
    "dci_trained.batch": Field(40, COUNT, "images per step, split across devices"),
    "dci_trained.precision": Field("float32", PRECISION, _MIXED),
    "dci_trained.remat": Field(False, bool, "recompute activations in the backward pass instead of storing them"),
    "dci_trained.learning_rate": Field(2e-3, RATE, "initial rate of Adam in divide; decays to 0 on a cosine schedule"),
    "dci_trained.divide_steps": Field(150, SOME, "steps in which every inverter learns alone"),
    "dci_trained.conquer_learning_rate": Field(
        1e-3, RATE, "initial rate of Adam in each stage of conquer; decays likewise"
    ),
    "dci_trained.conquer_warmup": Field(20, SOME, "warmup steps of that rate"),
    "dci_trained.conquer_clip": Field(
        math.inf, Range(0, above=True), "global norm to which the gradient is clipped; inf: no clipping"
    ),
    "dci_trained.deepest_steps": Field(0, SOME, "final steps on the deepest split point alone, in a separate chain"),
    "dci_trained.conquer": Field(
        (("layer1.2", 100), ("layer2.2", 300), ("layer3.2", 450)),
        Rows((str, int), "(('layer1.2', 100),)", COUNT),
        "the stages of conquer: ((deepest split point, steps), ...)",
    ),
    "dci.splits": Field((), POINTS, _ITS_POINTS),
    "dci.num_images": Field(1152, Range(16, whole=True), "maximum number of images that a map is solved on"),
    "dci.num_validation": Field(
        128, Range(8, whole=True), "procedural images for choosing the ridge and the number of corrections"
    ),
    "dci.batch": Field(64, COUNT, "images per batch, split across devices"),
    "dci.num_corrections": Field(6, SOME, "maximum number of corrections with the block's own output"),
    "dci.kernel_size": Field(5, Range(1, 7, whole=True), "maximum side of a map's neighbourhood in pixels"),
    "dci.max_unknowns": Field(
        (10000, 7000),
        Several(COUNT),
        "maximum unknowns (side² x channels) of a first map and of a correction; the side shrinks to fit",
    ),
    "dci.samples_per_unknown": Field(100, COUNT, "pixels per unknown; no more images are used than this takes"),
    "refine.splits": Field((), POINTS, _ITS_POINTS),
    "refine.num_splits": Field(0, SOME, _SO_MANY),
    "refine.steps": Field(300, COUNT, "updates of each batch of images"),
    "refine.learning_rate": Field(0.02, RATE, _PIXEL_RATE),
    "refine.total_variation": Field((0.03, 0.1, 0.3, 1.0), Several(WEIGHT), _CANDIDATES),
    "refine.num_validation": Field(8, COUNT, "procedural images for that selection"),
    "refine.prior": Field("", str, _PRIOR),
    "refine.prior_weight": Field(0.0, WEIGHT, "weight of `prior`"),
    "rmle.splits": Field((), POINTS, _ITS_POINTS),
    "rmle.num_splits": Field(0, SOME, _SO_MANY),
    "rmle.steps": Field(5000, COUNT, "updates of each batch of images"),
    "rmle.learning_rate": Field(0.02, RATE, _PIXEL_RATE),
    "rmle.total_variation": Field(0.03, WEIGHT, _TV),
    "rmle.total_variation_at": Field((), WEIGHTS_AT, _TV_AT),
    "rmle.prior": Field("", str, _PRIOR),
    "rmle.prior_weight": Field(0.0, WEIGHT, "weight of `prior`"),
    "deepinversion.splits": Field((), POINTS, _ITS_POINTS),
    "deepinversion.num_splits": Field(0, SOME, _SO_MANY),
    "deepinversion.steps": Field(2000, COUNT, "updates of each batch of images"),
    "deepinversion.learning_rate": Field(0.02, RATE, _PIXEL_RATE),
    "deepinversion.total_variation": Field(0.03, WEIGHT, _TV),
    "deepinversion.statistics": Field(
        0.1, WEIGHT, "weight of the statistics, relative to the relative feature distance"
    ),
    "deep_image_prior.splits": Field((), POINTS, _ITS_POINTS),
    "deep_image_prior.num_splits": Field(0, SOME, _SO_MANY),
    "deep_image_prior.width": Field(32, Range(1, 1024, whole=True), "channels of the hidden layers"),
    "deep_image_prior.levels": Field(
        3, Range(1, 10, whole=True), "halvings; the image's sides must be divisible by 2 that many times"
    ),
    "deep_image_prior.steps": Field(2000, COUNT, "Adam updates of each batch of images"),
    "deep_image_prior.learning_rate": Field(0.01, RATE, _FALLING),
    "deep_image_prior.total_variation": Field(0.0, WEIGHT, _TV),
    "gauss_newton.splits": Field((), POINTS, _ITS_POINTS),
    "gauss_newton.num_splits": Field(0, SOME, _SO_MANY),
    "gauss_newton.steps": Field(10, COUNT, "Gauss-Newton steps"),
    "gauss_newton.inner": Field(30, COUNT, "conjugate gradient iterations per step; for latents, steps are exact"),
    "gauss_newton.damping": Field(1e-2, POSITIVE, "initial damping, relative to the mean square of J's columns"),
    "gauss_newton.total_variation": Field(
        (0.0, 0.01, 0.1, 1.0),
        Several(WEIGHT),
        _CANDIDATES,
    ),
    "gauss_newton.num_validation": Field(8, COUNT, "procedural images for that selection"),
    "inverse_network.splits": Field((), POINTS, _ITS_POINTS),
    "inverse_network.num_splits": Field(0, SOME, _SO_MANY),
    "inverse_network.width": Field(32, Range(1, 512, whole=True), "channels at full resolution, doubled per halving"),
    "inverse_network.batch": Field(32, COUNT, "images per step"),
    "inverse_network.precision": Field("float32", PRECISION, _MIXED),
    "inverse_network.learning_rate": Field(2e-3, RATE, _FALLING),
    "inverse_network.steps": Field(1000, COUNT, "training steps for each split point"),
    "unet.splits": Field((), POINTS, _ITS_POINTS),
    "unet.num_splits": Field(0, SOME, _SO_MANY),
    "unet.width": Field(32, Range(1, 512, whole=True), "channels at full resolution"),
    "unet.num_images": Field(8192, COUNT, "images to train on, which DCI reconstructs first"),
    "unet.batch": Field(64, COUNT, "images per step"),
    "unet.precision": Field("float32", PRECISION, _MIXED),
    "unet.learning_rate": Field(2e-3, RATE, "highest learning rate of AdamW; decays to 0 on a cosine schedule"),
    "unet.steps": Field(1500, COUNT, "training steps for each split point"),
    "oracle.images": Field("", str, "folder, zip or npz; empty: no oracle"),
    "oracle.attack": Field(
        "dci",
        Choice(("dci", "dci_shared", "dci_trained", "inverse_network")),
        "the attack that learns from the real images",
    ),
}
