"""What a person sees while waiting: a bar with the time left on a terminal, else a line every half minute, a trace."""

import contextlib
import contextvars
import logging
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import rich.console
import rich.progress

from dci_jax.runtime import distributed

log = logging.getLogger("dci_jax")

_SECONDS_BETWEEN_LINES = 30.0
_TRACED = (2, 12)  # dispatches: the first ones compile
_trace = {"folder": None}
_visible = contextvars.ContextVar("visible", default=True)


def profile_to(folder: Path) -> None:
    """From now on write a trace of ten dispatches of every bar to a folder of its own.

    ui.perfetto.dev opens `perfetto_trace.json.gz`; `xprof` and TensorBoard read the folder.
    """
    _trace["folder"] = folder


@contextlib.contextmanager
def visible(wanted: bool) -> Iterator[None]:
    """Inside, bars are shown or not."""
    token = _visible.set(wanted)
    try:
        yield
    finally:
        _visible.reset(token)


@contextlib.contextmanager
def bar(label: str, total: int) -> Iterator[Callable[..., None]]:
    """Yields `update(done, terms={})`: steps done of `total`, and loss terms worth showing.

    The terms may be device arrays. Those of the last step that is finished are shown, so that showing
    them never makes a device wait.
    """
    start, last, flying = time.monotonic(), [time.monotonic(), {}], deque()
    first = []  # when the first report came, and how much was done: before it programs compile, or a run resumes
    console = rich.console.Console(stderr=True, quiet=not (distributed.is_leader() and _visible.get()))
    live = _visible.get() and (console.is_terminal or console.is_jupyter)
    columns = (
        "{task.description}",
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(),
        "{task.fields[terms]}",
    )
    with (
        _tracer(label) as traced,
        rich.progress.Progress(*columns, console=console, transient=True, disable=not live) as display,
    ):
        task = display.add_task(label, total=total, terms="")

        def update(done: int, terms: dict | None = None) -> None:
            terms = terms or {}
            traced(terms)
            flying.append(terms)
            while flying and (done == total or all(map(_ready, flying[0].values()))):
                last[1] = flying.popleft() or last[1]
            now = time.monotonic()
            first[:] = first or [now, done]
            if live:
                if now - last[0] > 1 or done == total:
                    display.update(task, completed=done, terms=_text(last[1]))
                    last[0] = now
            elif _visible.get() and now - last[0] > _SECONDS_BETWEEN_LINES and done < total:
                made, since = done - first[1], now - first[0]
                left = f", {since / made * (total - done):.0f} s left" if made else ""
                _line(f"{label} {done}/{total}{left} {_text(last[1])}")
                last[0] = now

        yield update
    if last[1] and _visible.get():  # something was left to do
        log.info("%s: %d in %.1f s %s", label, total, time.monotonic() - start, _text(last[1]))


def _line(text):
    """To the log; or, in a script that shows no log, to stderr, so that minutes of work do not look like a fault."""
    if log.isEnabledFor(logging.INFO):
        log.info(text)
    elif distributed.is_leader():
        print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _tracer(label):
    """Yields a function to be called after every dispatch; it starts and stops the trace, if there is to be one."""
    count = [0]

    def stop(terms):
        jax.block_until_ready(terms)
        jax.profiler.stop_trace()
        log.info("the trace of %s is in %s", label, folder)

    def traced(terms):
        count[0] += 1
        if folder and count[0] == _TRACED[0]:
            jax.block_until_ready(terms)
            jax.profiler.start_trace(folder, create_perfetto_trace=True)
        if folder and count[0] == _TRACED[1]:
            stop(terms)

    folder = _trace["folder"] and _trace["folder"] / re.sub(r"\W+", "_", label)
    try:
        yield traced
    finally:
        if folder and _TRACED[0] <= count[0] < _TRACED[1]:  # a short phase
            stop(())


def _ready(value):
    return not isinstance(value, jax.Array) or value.is_ready()


def _text(terms: dict) -> str:
    return " ".join(f"{name} {float(value):.4g}" for name, value in terms.items())
