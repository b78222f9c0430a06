"""Orbax: save a pytree so that a kill loses nothing, restore it, tell whether it is there."""

import logging
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

Pytree = Any

logging.getLogger("absl").setLevel(logging.WARNING)  # orbax reports every file there


class Checkpointer:
    """The numbered checkpoints of one folder; saving is asynchronous and atomic, the latest two are kept.

    Use it as a context manager: leaving it waits for the last save.
    """

    def __init__(self, folder: str | Path):
        options = ocp.CheckpointManagerOptions(max_to_keep=2, create=True)
        self._manager = ocp.CheckpointManager(Path(folder).absolute(), options=options)

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, *_) -> None:
        self._manager.wait_until_finished()
        self._manager.close()

    def save(self, step: int, tree: Pytree) -> None:
        """Start writing `tree` as checkpoint `step`; does nothing if that one is there already."""
        if self._manager.latest_step() != step:
            self._manager.save(step, args=ocp.args.StandardSave(tree))

    def restore(self, like: Pytree) -> tuple[int, Pytree] | None:
        """(step, tree) of the latest complete checkpoint, or None.

        Args:
          like: a tree of arrays of the shapes, types and shardings wanted.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        return step, self._manager.restore(step, args=ocp.args.StandardRestore(target))
