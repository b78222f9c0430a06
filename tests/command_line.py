"""The true command line in processes of its own: what the tests of main, of many devices and of faults share."""

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax

ROOT = Path(__file__).parent.parent
QUICK_COMPILER = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
# Of configs/tiny.py, with solved inverters alone.
SOLVED = [
    "--config.attacks=('dci',)",
    "--config.dci.num_images=32",
    "--config.synthesis.batches=0",
    "--config.dci.num_validation=16",
    "--config.dci.batch=16",
    "--config.dci.num_corrections=1",
    "--config.dci.kernel_size=3",
    "--config.inputs.synthetic=0.0",
]
FITTED = [f"--config.prior_fitting.{f}" for f in ("steps=2", "batch=8", "padding=(4,)")]


def command(place, workdir, *more, config="configs/tiny.py"):
    return [
        sys.executable,
        "-m",
        "dci_jax.main",
        f"--config={config}",
        f"--workdir={workdir}",
        "--config.target.name=cifar_resnet8",
        f"--config.target.weights={place / 'target.safetensors'}",
        f"--config.data.images={place / 'images'}",
        *more,
    ]


def environment(place, devices=1):
    flags = f"--xla_force_host_platform_device_count={devices} {QUICK_COMPILER}"
    if jax.__version_info__ >= (0, 12):  # with oneDNN no program of a training can be kept in the cache
        flags += " --xla_cpu_experimental_onednn_custom_call=false"
    return os.environ | {"HOME": str(place), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}


class Started:
    """A process of `forks`: what subprocess.Popen offers of it. Its files are `log` (stderr) and `out` (stdout)."""

    def __init__(self, command, environment, log, file_size=None):
        self.log, self.out, self._code = log, log.with_suffix(".out"), log.with_suffix(".code")
        log.touch()  # it is read before the fork has opened it
        files = {"stdout": str(self.out), "stderr": str(self.log), "code": str(self._code)}
        request = {"argv": command[2:], "environment": dict(environment), "file_size": file_size, **files}
        server = _forks()
        server.stdin.write(json.dumps(request) + "\n")
        self.pid = int(server.stdout.readline())
        self.returncode = None

    def poll(self):
        if self.returncode is None and self._code.exists():
            self.returncode = int(self._code.read_text())
        return self.returncode

    def wait(self, seconds=600):
        deadline = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), seconds)
            time.sleep(0.005)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        """As the kernel does when memory is short: nothing can be tidied up."""
        self.send_signal(signal.SIGKILL)


@functools.cache
def _forks():
    """The server of this test process; it ends with it, when its stdin is closed."""
    command, pipe = [sys.executable, "-m", "tests.forks"], subprocess.PIPE
    surroundings = environment(Path.home())  # matplotlib keeps its list of fonts there
    return subprocess.Popen(command, cwd=ROOT, env=surroundings, stdin=pipe, stdout=pipe, text=True, bufsize=1)


def call(place, workdir, *more, devices=1, file_size=None, **kwargs):
    """Run it to its end; a CompletedProcess with stdout and stderr as text."""
    process = start(place, workdir, *more, devices=devices, file_size=file_size, **kwargs)
    process.wait()
    log, out = process.log, process.out
    return subprocess.CompletedProcess(process.pid, process.returncode, out.read_text(), log.read_text())


def start(place, workdir, *more, devices=1, file_size=None, **kwargs):
    """Start it; its stderr goes to a file, see `said`. It can write files of `file_size` bytes at most."""
    log = place / "logs" / f"{workdir.name}.{time.monotonic_ns()}.log"
    log.parent.mkdir(exist_ok=True)
    return Started(command(place, workdir, *more, **kwargs), environment(place, devices), log, file_size)


def start_together(place, workdir, *more, count=2, devices=1):
    """Start `count` processes of one run, that find each other over loopback; `workdir` may be one for each."""
    workdirs = workdir if isinstance(workdir, tuple) else (workdir,) * count
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    flags = [f"--coordinator={coordinator}", f"--processes={count}"]
    return [start(place, workdirs[i], *flags, f"--process={i}", *more, devices=devices) for i in range(count)]


def finish(processes, code=0, timeout=600):
    """Wait for all; each must end with `code`."""
    for process in processes:
        assert process.wait(timeout) == code, said(process)


def said(process):
    """What a process from `start` has written to stderr so far."""
    return process.log.read_text()


def wait_for(happened, process, seconds=300):
    """Until `happened()`; it must, before the process ends."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None, said(process)
        assert time.monotonic() < deadline, f"waited in vain: {said(process)}"
        time.sleep(0.001)


def lines(workdir):
    """The lines of results.jsonl."""
    return [json.loads(line) for line in (workdir / "results.jsonl").read_text().splitlines()]
