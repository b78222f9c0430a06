"""The true command line in processes of its own: what the tests of main, of many devices and of faults share."""

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
    flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    if jax.__version_info__ >= (0, 12):  # with oneDNN no program of a training can be kept in the cache
        flags += " --xla_cpu_experimental_onednn_custom_call=false"
    return os.environ | {"HOME": str(place), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}


def call(place, workdir, *more, devices=1, **kwargs):
    """Run it to its end; a CompletedProcess with stdout and stderr as text."""
    return subprocess.run(
        command(place, workdir, *more, **kwargs),
        cwd=ROOT,
        env=environment(place, devices),
        capture_output=True,
        text=True,
    )


def call_each(place, workdir, mores, **kwargs):
    """Run it to its end with each of `mores`, in forks of one process: [(exit code, stderr), ...]."""
    lines = [command(place, workdir, *more, **kwargs)[2:] for more in mores]
    done = subprocess.run(
        [sys.executable, "-m", "tests.many_calls"],
        input=json.dumps(lines),
        cwd=ROOT,
        env=environment(place),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def start(place, workdir, *more, devices=1):
    """Start it; a Popen whose stderr goes to a file beside the workdir, see `said`."""
    log = workdir.with_name(f"{workdir.name}.{time.monotonic_ns()}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        command(place, workdir, *more),
        cwd=ROOT,
        env=environment(place, devices),
        stdout=subprocess.DEVNULL,
        stderr=log.open("w"),
    )
    process.log = log
    return process


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


def kill(process):
    """As the kernel does when memory is short: nothing can be tidied up."""
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, said(process)


def lines(workdir):
    """The lines of results.jsonl."""
    return [json.loads(line) for line in (workdir / "results.jsonl").read_text().splitlines()]
