"""What signatures call arrays and functions of them; shapes stand beside these names, as in `Float[Array, "B H W C"]`."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

Array = jax.Array | np.ndarray | jax.ShapeDtypeStruct  # the last in a rehearsal (`runtime.compile_ahead`)
Pytree = Any
Reconstruct = Callable[[Array], Array]  # features [B, ...] at a split point -> inputs [B, ...]
