"""The settings: `default` has every field of a config at its default, `audit` those of an audit."""

from ml_collections import ConfigDict

from dci_jax.settings.fields import FIELDS


def default() -> ConfigDict:
    """Every field at its default; docs/fields.md says what each means."""
    config = ConfigDict()
    for name, field in FIELDS.items():
        section, _, key = name.rpartition(".")
        if section and section not in config:
            config[section] = ConfigDict()
        (config[section] if section else config)[key] = field.default
    return config


def audit() -> ConfigDict:
    """The settings of an audit: differences from `default`."""
    config = default()
    config.num_splits = 4
    # The decoder does not adapt: training it for each defense takes four minutes, and it reconstructs less than all others.
    config.attacks = ("dci", "adapted_dci", "adapted_dci+gauss_newton", "inverse_network")
    config.defenses = (
        ("none", 0.0),
        ("gaussian", 1.0),
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
    config.num_queries = (1, 10)
    config.audit.page = True
    config.defense.steps = 80
    config.dci.num_images = 128
    config.dci.num_validation = 32
    config.dci.batch = 32
    config.dci.num_corrections = 2
    config.dci.samples_per_unknown = 70
    config.dci.kernel_size = 3
    config.dci.max_unknowns = (3000, 1500)  # corrections in layer3 see single pixels, as many cells have to be solved
    # Attacks that take minutes run at the middle split point only.
    config.gauss_newton.num_splits = config.inverse_network.num_splits = config.refine.num_splits = 1
    config.refine.steps = (
        100  # for users who add "adapted_dci+refine"; Gauss-Newton reconstructs more behind most defenses
    )
    config.gauss_newton.update(steps=4, inner=15, total_variation=(0.1, 1.0))
    config.inverse_network.steps = 100
    config.inverse_network.width = 16
    return config
