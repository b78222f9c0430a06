"""What a config names as "module.path:object": your own network, prior, attack or defense."""

import pkgutil
from collections.abc import Callable
from typing import Any

from dci_jax.errors import InputError, reason


def import_from_string(name: str) -> Any:
    """The object that `name` stands for.

    Args:
      name: "module.path:object", importable from the folder where the program is started.

    Raises:
      InputError: the module fails to import, or has no such object.
    """
    try:
        return pkgutil.resolve_name(name)
    except (Exception, SystemExit) as error:  # of every kind: it is the user's module
        raise InputError(
            f"Could not import {name!r} ({type(error).__name__}: {reason(error)}); give module.path:object, importable from the "
            "folder where you start."
        ) from error


def function(name: str) -> Callable:
    """The function that `name` stands for.

    Raises:
      InputError: see `import_from_string`, or it cannot be called.
    """
    found = import_from_string(name)
    if not callable(found):
        raise InputError(f"{name} is a {type(found).__name__}; give module.path:function.")
    return found


def row(name: str, kind: type) -> Any:
    """The `kind` (`Attack` or `Defense`) that `name` stands for.

    Raises:
      InputError: see `import_from_string`, or it is something else.
    """
    found = import_from_string(name)
    if not isinstance(found, kind):
        raise InputError(f"{name} is a {type(found).__name__}; give module.path:object of a dci_jax.{kind.__name__}.")
    return found
