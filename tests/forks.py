"""Command lines in forks of one process that has imported everything: a start takes milliseconds instead of seconds.

`python -m tests.forks` reads a JSON object in each line: "argv" of dci_jax.main, "environment", "stdout" and "stderr"
(files), "code" (the file that the exit code is written to) and "file_size" (the largest file that may be written, or
null). It answers with the number of the process that runs it.
"""

import atexit
import json
import os
import resource
import signal
import sys
import threading
from pathlib import Path

import matplotlib.backends.backend_svg
import matplotlib.figure  # noqa: F401
from jax._src import xla_bridge

import dci_jax.report.page  # noqa: F401
from dci_jax import main


def serve() -> list[str]:
    """In the server it ends the process; in the fork of each request it returns the arguments of main."""
    assert not xla_bridge.backends_are_initialized()  # its threads would be lost in a fork
    os.setpgid(0, 0)
    while line := sys.stdin.readline():
        keeper = os.fork()
        if not keeper:
            request = json.loads(line)
            if not _run_and_keep_its_code(Path(request["code"])):
                return _enter(request)
        os.waitpid(keeper, os.WNOHANG)
    os.killpg(0, signal.SIGKILL)  # and whatever a failed test has left


def _run_and_keep_its_code(code: Path) -> bool:
    """Forks; False in the fork. The keeper writes down its exit code, which only its parent is told."""
    running = os.fork()
    if not running:
        return False
    print(running, flush=True)
    ended = os.waitstatus_to_exitcode(os.waitpid(running, 0)[1])
    code.with_suffix(".part").write_text(str(ended))
    code.with_suffix(".part").replace(code)
    os._exit(0)


def _enter(request: dict) -> list[str]:
    """Files, environment, limits and signals of a process of its own."""
    os.environ.clear()
    os.environ.update(request["environment"])
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, file in ((1, request["stdout"]), (2, request["stderr"])):
        os.dup2(os.open(file, flags), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if request["file_size"]:  # writing more is an OSError, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_size"],) * 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return request["argv"]


def _end(code: int | None) -> None:
    """What Python does at its end but for freeing every module, which takes a fork most of a second."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    sys.argv = serve()  # ml_collections looks for overrides there
    try:
        main.run()
    except SystemExit as ended:
        _end(ended.code)
