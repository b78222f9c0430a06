"""What a config names as "module.path:function": one's own network, or one's own prior."""

import pkgutil
from collections.abc import Callable

from dci_jax.errors import InputError


def function(name: str) -> Callable:
    """The function that `name` stands for.

    Args:
      name: "module.path:function", importable from the folder where the program is started.

    Raises:
      InputError: there is none of that name, or it cannot be called.
    """
    try:
        found = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"{name!r} cannot be had ({error}); give module.path:function, importable from the folder where you start."
        ) from error
    if not callable(found):
        raise InputError(f"{name} is a {type(found).__name__}; give module.path:function.")
    return found
