"""Command lines that are known to be right, and arguments of which any one makes them wrong; nothing is started."""

import contextlib
import functools
import random
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from benchmarks.soak import doors
from dci_jax.convert.__main__ import main as convert
from dci_jax.report.__main__ import main as report
from launch import jobset, sweep
from training import generator, target

# command -> (its main, arguments that are right, arguments of which any one is wrong)
_TRAINED = [f"--{name}_images={{npz}}" for name in ("train", "test")]
_NUMBERS = ("", "x", "nan", "inf", "-1", "1e999", "0x10")
COMMANDS = {
    "training.target": (
        target.main,
        ["--model=he_cnn", "--batch=8", "--out={folder}/o.safetensors", *_TRAINED],
        [
            *(
                f"--{flag}={value}"
                for flag in ("epochs", "batch", "statistics_batches")
                for value in (*_NUMBERS, "0", "1.5")
            ),
            *(f"--learning_rate={value}" for value in (*_NUMBERS, "0", "101")),
            *(f"--weight_decay={value}" for value in (*_NUMBERS, "2")),
            *(f"--seed={value}" for value in (*_NUMBERS, "1.5", "99999999999")),
            *("--out={folder}", "--out=", "--out=/dev/null/x", "--out={folder}/no/o", "--model=sngan_32", "--model="),
            *(
                "--train_images=",
                "--train_images={folder}/no.npz",
                "--test_images={folder}",
                "--batch=41",
                "--nowhere=1",
            ),
        ],
    ),
    "training.generator": (
        generator.main,
        ["--ngf=8", "--ndf=8", "--batch=8", "--workdir={folder}/w", *_TRAINED],
        [
            *(
                f"--{flag}={value}"
                for flag in ("steps", "ngf", "ndf", "batch", "n_dis")
                for value in (*_NUMBERS, "0", "1.5")
            ),
            *(f"--learning_rate={value}" for value in (*_NUMBERS, "0")),
            *(f"--ema={value}" for value in ("", "x", "nan", "-1", "1.5")),
            *("--workdir=", "--workdir=/dev/null/x", "--train_images=", "--test_images={folder}", "--nowhere=1"),
        ],
    ),
    "launch.jobset": (
        jobset.main,
        [
            *("--dry_run", "--image=registry/dci_jax:1", "--claim=runs", "--name=audit", "--hosts=2"),
            *("--config=configs/tiny.py", "--workdir=/runs/a"),
        ],
        [
            *(f"--hosts={value}" for value in (*_NUMBERS, "0", "1.5", "10001")),
            *(f"--name={value}" for value in ("", "A", "-a", "a-", "a b", "a_b", "../x", "x" * 41, "é", "a\n", "a.b")),
            *(f"--claim={value}" for value in ("", "A", "-a", "a b", "a/b", "a_b", "x" * 254, "é")),
            *(f"--image={value}" for value in ("", "A b", "a b", "-", "a:", "a@sha256:0", "é", "a\n")),
            *(f"--workdir={value}" for value in ("", "/runs", "/runs/../etc", "runs/a", "/", "/etc")),
            *(
                "--config=",
                "--config=none.py",
                "--config=configs",
                "--accelerator=cpu",
                "--seed=1",
                "word",
                "--nowhere=1",
            ),
        ],
    ),
    "launch.sweep": (
        sweep.main,
        ["point", "--config={swept}", "--workdir={folder}/w", "--index=0"],
        [
            *(f"--index={value}" for value in (*_NUMBERS, "1.5", "3", "99")),
            *("--config=", "--config=none.py", "--config={folder}", "--workdir=", "--nowhere=1", "--config.sed=3"),
        ],
    ),
    "dci_jax.report": (
        report,
        ["{run}"],
        [
            *(
                "{folder}/nowhere",
                "{npz}",
                "--out=",
                "--out={npz}",
                "--out=/dev/null/x",
                "--out={folder}/o",
                "--nowhere",
                "",
                "{folder}",
            ),
        ],
    ),
    "dci_jax.convert": (
        convert,
        [],  # right ones need PyTorch
        [
            *("nowhere.onnx", "hf:a/b", "a.ts", "x", "", "{npz}"),
            *(
                f"{name} --out={{folder}}/o {flag}"
                for name in ("x:f", "a.pt2")
                for flag in ("--size=0", "--channels=2", "--classes=-1")
            ),
        ],
    ),
}

_ALWAYS_WRONG = ("dci_jax.report", "dci_jax.convert")  # the one would write into the run, the other needs PyTorch


def call(rng: random.Random, folder: Path) -> tuple[str, bool, Callable[[], object]]:
    """(what is given, whether it is wrong, the call): a command line, in most cases with one wrong argument."""
    name = rng.choice(list(COMMANDS))
    main, right, wrongs = COMMANDS[name]
    wrong = name in _ALWAYS_WRONG or rng.random() < 0.85
    swept = folder / "swept.py"
    swept.write_text(
        "from configs.tiny import get_config\n"
        "def get_hyper(hyper): return hyper.product([hyper.sweep('config.seed', range(3))])\n"
    )
    places = {"{folder}": folder, "{npz}": doors.labelled(), "{swept}": swept, "{run}": doors.finished()}
    places = {key: str(place) for key, place in places.items()}
    more = rng.choice(wrongs) if wrong else ""
    given = [*right, *(more.split(" ") if name == "dci_jax.convert" else [more] * wrong)]
    words = [functools.reduce(lambda w, place: w.replace(*place), places.items(), word) for word in given]
    if name == "dci_jax.convert" and not any(word.startswith("--out") for word in words):
        words.append(f"--out={folder / 'o'}")
    stops = (
        *(mock.patch.object(target, "minimize", doors.begin), mock.patch.object(sweep.os, "execv", doors.begin)),
        *(mock.patch.object(generator, each, doors.begin) for each in ("step", "Checkpointer")),
    )

    def tried():
        with contextlib.ExitStack() as stack:
            for each in stops:
                stack.enter_context(each)
            doors.command(lambda: main(words))

    return f"{name} {more or 'as it should be'}", wrong, tried
