"""Fields of earlier versions, and what they are called now."""

# Former name of a field -> its current name.
RENAMED = {
    "audit.rank1": "audit.structure",
    "audit.label_kept": "audit.server_agreement",
    "sends": "num_queries",
    "refine.total_variation_at": "refine.total_variation",
    "damages": "corruptions",
    "inputs.bank": "inputs.synthetic",
    "dci.images": "dci.num_images",
    "dci.held_out": "dci.num_validation",
    "dci.rounds": "dci.num_corrections",
    "dci.size": "dci.kernel_size",
    "dci.unknowns": "dci.max_unknowns",
    "dci.equations": "dci.samples_per_unknown",
    "dci_trained.rounds": "dci_trained.num_corrections",
    "gauss_newton.held_out": "gauss_newton.num_validation",
    "calibration.steps": "prior_fitting.steps",
    "calibration.batch": "prior_fitting.batch",
    "calibration.learning_rate": "prior_fitting.learning_rate",
    "calibration.padding": "prior_fitting.padding",
}


def moved(name: str) -> str | None:
    """A sentence with the current name of a renamed field; None for any other name."""
    return f"{name} is now {RENAMED[name]}; give that instead" if name in RENAMED else None
