"""What a person sees while waiting: a bar with the time left on a terminal, one line per stage in a log."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

import rich.console
import rich.progress

log = logging.getLogger("dci_jax")

_SECONDS_BETWEEN_LINES = 30.0


@contextlib.contextmanager
def bar(label: str, total: int) -> Iterator[Callable[..., None]]:
    """Yields `update(done, terms={})`: steps done of `total`, and loss terms worth showing.

    The terms may be device arrays; they are only fetched when they are shown.
    """
    start, last = time.monotonic(), [time.monotonic(), {}]
    console = rich.console.Console(stderr=True)
    columns = (
        "{task.description}",
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(),
        "{task.fields[terms]}",
    )
    with rich.progress.Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as display:
        task = display.add_task(label, total=total, terms="")

        def update(done: int, terms: dict | None = None) -> None:
            last[1] = terms or last[1]
            now = time.monotonic()
            if console.is_terminal:
                if now - last[0] > 1 or done == total:
                    display.update(task, completed=done, terms=_text(last[1]))
                    last[0] = now
            elif now - last[0] > _SECONDS_BETWEEN_LINES and done < total:
                left = (now - start) / max(done, 1) * (total - done)
                log.info("%s %d/%d, %.0f s left %s", label, done, total, left, _text(last[1]))
                last[0] = now

        yield update
    if last[1]:  # something was left to do
        log.info("%s: %d in %.1f s %s", label, total, time.monotonic() - start, _text(last[1]))


def _text(terms: dict) -> str:
    return " ".join(f"{name} {float(value):.4g}" for name, value in terms.items())
