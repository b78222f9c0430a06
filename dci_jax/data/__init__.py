"""Real images: read for evaluation, for an oracle and for training a target, never for an attack."""
