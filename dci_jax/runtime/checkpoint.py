"""Orbax: save a pytree so that a kill loses nothing, restore it, tell whether it is there."""

import os
import re
from pathlib import Path

import jax
import orbax.checkpoint as ocp

from dci_jax.runtime.files import damaged
from dci_jax.typing import Pytree


class Checkpointer:
    """The numbered checkpoints of one folder; saving is asynchronous and atomic, the latest two are kept.

    Use it as a context manager: leaving it waits for the last save. Every process makes, uses and
    leaves it alike, and the folder is one that all of them see.

    Its methods raise OSError where the folder cannot be written (full, gone, read-only); the
    checkpoints that were complete stay.
    """

    def __init__(self, folder: str | Path):
        # What a kill left half-written is swept away.
        options = ocp.CheckpointManagerOptions(max_to_keep=2, create=True, cleanup_tmp_directories=True)
        self._folder = Path(folder).absolute()
        self._folder.parent.stat()  # orbax would make the parents again if the workdir has vanished
        self._manager = ocp.CheckpointManager(self._folder, options=options)
        # Its save would poll for a preemption with a count of its own, after which the processes can no
        # longer agree on where to stop: that is asked in one place only, `hosts.stopping`.
        self._manager.reached_preemption = lambda step: False

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, kind, error, trace) -> None:
        try:
            self._manager.wait_until_finished()
            self._manager.close()
        except ValueError as problem:
            if error is None:  # else the first error is the one to tell
                raise _as_os_error(problem, self._folder) from problem

    def save(self, step: int, tree: Pytree) -> None:
        """Start writing `tree` as checkpoint `step`; does nothing if that one is there already."""
        if not self._folder.is_dir():
            raise FileNotFoundError(2, "it has vanished", str(self._folder))
        try:
            if self._manager.latest_step() != step:
                self._manager.save(step, args=ocp.args.StandardSave(tree))
        except ValueError as problem:  # of the last save, which ran on meanwhile
            raise _as_os_error(problem, self._folder) from problem

    def restore(self, like: Pytree) -> tuple[int, Pytree] | None:
        """(step, tree) of the latest complete checkpoint, or None.

        Args:
          like: a tree of arrays of the shapes, types and shardings wanted; how many devices there
            were when it was saved does not matter.

        Raises:
          InputError: it is damaged.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            return step, self._manager.restore(step, args=ocp.args.StandardRestore(target))
        except Exception as problem:  # the storage library has one of its own for every file that can be damaged
            raise damaged(self._folder / str(step), problem) from problem


def _as_os_error(problem: ValueError, folder: Path) -> Exception:
    """The storage library hides the operating system's errors in its own; others are given back as they are."""
    code = re.search(r"os_error_code='(\d+)'", str(problem))
    if code is None:
        return problem
    return OSError(int(code[1]), os.strerror(int(code[1])), str(folder))
