"""What to measure on an accelerator, in stages of under nine minutes, each of which resumes and leaves its files at once.

    python -m benchmarks.accelerator OUT --data=FOLDER            # all stages that OUT has not finished
    python -m benchmarks.accelerator OUT --data=FOLDER --only resnet50 resnet18 --seconds=1500
    python -m benchmarks.accelerator OUT --rehearse               # tiny sizes, any device: does every line work?

FOLDER may hold resnet18.safetensors, resnet50.safetensors, resnet20.safetensors, resnet32.safetensors, photographs.npz (224 px;
images, labels) and, of CIFAR-10, lossless_3000.npz, jpeg_train_50000.zip and jpeg_test_5000.zip; a stage whose files are not there,
or that goes on from an unfinished one, is left out, and says so. OUT/STAGE.json has the command, the exit code, the
seconds, the versions and the device; OUT/STAGE/ the numbers and the small pictures of a run. Work is kept in OUT/work, compiled
programs in OUT/work/programs: on a GPU they take most of a first run (docs/speed.md), so bring them along to the next machine.
"""

import argparse
import functools
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from configs.ablation import VARIANTS

LIMIT = 540  # seconds for one stage; what is not done then goes on the next time
KEPT = 300_000  # bytes of a picture, at most


@dataclass(frozen=True)
class Stage:
    """One command.

    Attributes:
      command: behind `python -m`; "{out}" stands for OUT/work/STAGE, "{data}" for FOLDER.
      needs: files in FOLDER.
      rehearsal: what is given instead or in addition, or None: it is not rehearsed.
      after: the stage that it goes on from, or none.
    """

    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    rehearsal: tuple[str, ...] | None = ()
    after: str = ""


def run(config: str, workdir: str, *more: str, weights: str = "", images: str = "") -> tuple[str, ...]:
    """A run of the project, such as `dci_jax.main --config=configs/quickstart.py`; `config` may name a variant behind a colon."""
    given = [f"--config.target.weights={{data}}/{weights}"] * bool(weights)
    given += [f"--config.data.images={{data}}/{images}"] * bool(images)
    file, colon, variant = config.partition(":")
    return ("dci_jax.main", f"--config=configs/{file}.py{colon}{variant}", f"--workdir={workdir}", *given, *more)


TINY = (
    "--config.dci.num_images=16",
    "--config.dci.num_validation=16",
    "--config.dci.batch=16",
    "--config.dci.num_corrections=1",
)
FEW = (*TINY, "--config.data.count=4", "--config.splits=('stem',)", "--config.attacks=('dci',)")
IMAGENET = ("resnet50.safetensors", "photographs.npz")
DEEP = (  # of one H200's memory
    "--config.splits=('layer4.2',)",
    "--config.inputs.side=224",
    "--config.dci.num_images=8192",
    "--config.dci.num_validation=256",
    "--config.dci.batch=256",
    "--config.dci.num_corrections=2",
    "--config.dci.max_unknowns=(18500, 9300)",
    "--config.dci.samples_per_unknown=50",
)
ATTACKS = (  # beside one another on the same photographs; the oracle learns from those that are not evaluated
    "--config.splits=('layer2.3', 'layer3.5')",
    "--config.attacks=('dci', 'dci+refine', 'inverse_network', 'rmle')",
    "--config.data.count=100",
    "--config.oracle.images={data}/photographs.npz",
)
CIFAR20 = ("resnet20.safetensors", "lossless_3000.npz")
CIFAR = ("jpeg_train_50000.zip", "jpeg_test_5000.zip")
LONG = ("--config.dci_trained.batch=140", "--config.dci_trained.conquer_warmup=200")
BRIEF = (
    "--config.data.count=4",
    "--config.splits=('stem',)",
    "--config.synthesis.stages=((32, 2),)",
    "--config.synthesis.batch=16",
    "--config.dci_trained.batch=8",
    "--config.dci_trained.divide_steps=2",
    "--config.dci_trained.conquer=(('stem', 2),)",
    "--config.dci_trained.conquer_warmup=1",
    "--config.refine.steps=2",
    "--config.refine.splits=()",
)
STEPS = (
    "synthesis, ResNet-50, 224 px",
    "synthesis, ResNet-18, 224 px",
    "DCI divide, ResNet-20 to layer2.2",
    "DCI conquer, ResNet-20 to layer2.2",
    "rMLE, ResNet-18 to layer2.1, 224 px",
)


def ablation(variant: str) -> Stage:
    """One variant of configs/ablation.py, ten times as many images in each of 26 times as many steps as there."""
    phases = ("--config.dci_trained.divide_steps=6000",)
    if variant != "divide_only":
        phases = ("--config.dci_trained.divide_steps=2000", "--config.dci_trained.conquer=(('layer2.2', 4000),)")
    command = run(f"ablation:{variant}", "{out}", *LONG, *phases, weights=CIFAR20[0], images=CIFAR20[1])
    return Stage(command, CIFAR20, BRIEF if variant == "full" else None)


STAGES = {
    "tests": Stage(
        ("pytest", "-q", "tests/attacks", "tests/models", "tests/inputs", "tests/network_test.py"), (), None
    ),
    "quickstart": Stage(run("quickstart", "{out}"), (), FEW),
    **{
        f"steps_{number}": Stage(("benchmarks.side_by_side", "{out}.rows.json", name), (), None)
        for number, name in enumerate(STEPS)
    },
    **{f"profile_{number}": Stage(("benchmarks.profiled", name), (), None) for number, name in enumerate(STEPS)},
    "resnet50": Stage(run("resnet50", "{out}", weights=IMAGENET[0], images=IMAGENET[1]), IMAGENET, FEW),
    "resnet50_layer4": Stage(run("resnet50", "{out}", *DEEP, weights=IMAGENET[0], images=IMAGENET[1]), IMAGENET, None),
    "resnet50_attacks": Stage(
        run("resnet50", "{out}", *ATTACKS, weights=IMAGENET[0], images=IMAGENET[1]),
        IMAGENET,
        (
            *TINY,
            "--config.data.count=4",
            "--config.splits=('stem',)",
            "--config.refine.steps=2",
            "--config.rmle.steps=2",
            "--config.inverse_network.steps=2",
        ),
    ),
    "resnet18": Stage(
        run("resnet18", "{out}", weights="resnet18.safetensors", images=IMAGENET[1]),
        ("resnet18.safetensors", IMAGENET[1]),
        FEW,
    ),
    "resnet20": Stage(run("cifar_resnet20", "{out}", weights=CIFAR20[0], images=CIFAR20[1]), CIFAR20, FEW),
    "resnet32": Stage(
        run(
            "cifar_resnet20",
            "{out}",
            "--config.target.name=cifar_resnet32",
            "--config.splits=('stem', 'layer1.4', 'layer2.4', 'layer3.4')",
            weights="resnet32.safetensors",
            images=CIFAR20[1],
        ),
        ("resnet32.safetensors", CIFAR20[1]),
        FEW,
    ),
    "resnet20_trained": Stage(
        run(
            "paper:cifar_resnet20",
            "{out}",
            *LONG,
            "--config.dci_trained.divide_steps=4000",
            "--config.dci_trained.conquer=(('layer1.2', 2000), ('layer2.2', 6000), ('layer3.2', 8000))",
            weights=CIFAR20[0],
            images=CIFAR20[1],
        ),
        CIFAR20,
        BRIEF,
    ),
    **{f"ablation_{variant}": ablation(variant) for variant in VARIANTS},
    "sngan_train": Stage(
        (
            "training.generator",
            "--workdir={out}",
            *(f"--{kind}_images={{data}}/{file}" for kind, file in zip(("train", "test"), CIFAR, strict=True)),
            "--half",
        ),
        CIFAR,
        ("--ngf=8", "--ndf=8", "--batch=8", "--steps=2", "--statistics_batches=2", "--samples=64"),
    ),
    "sngan": Stage(
        run(
            "sngan_narrow",
            "{out}",
            "--config.target.name=sngan_32",
            "--config.target.weights={out}/../sngan_train/generator.safetensors",
        ),
        CIFAR,
        None,
        after="sngan_train",
    ),
    "audit": Stage(run("audit", "{out}"), (), (*FEW, "--config.defenses=(('none', 0.0),)", "--config.data.count=0")),
}


def instead(command: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    """`command` with the flags of `more`, which replace its own of the same name: a tuple that is given twice would be both."""
    given = {word.partition("=")[0] for word in more}
    return (*(word for word in command if word.partition("=")[0] not in given), *more)


@functools.cache
def about() -> dict[str, str]:
    """The device and the versions; asked in a process of its own, which would else keep the device's memory."""
    asked = "import jax; print(jax.devices()[0].device_kind, jax.device_count(), jax.__version__, sep='|')"
    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True).stdout.strip().split("|")
    return dict(zip(("device", "devices", "jax"), said, strict=False)) | {"python": sys.version.split()[0]}


def perform(name: str, stage: Stage, out: Path, data: Path, rehearse: bool, seconds: float) -> dict:
    """Run a stage for `seconds` at most, and keep what it left."""
    work = out / "work" / name
    words = instead(stage.command, stage.rehearsal) if rehearse else stage.command
    command = [sys.executable, "-m", *(word.format(out=work, data=data) for word in words)]
    (out / "work").mkdir(parents=True, exist_ok=True)
    programs = (out / "work" / "programs").resolve()
    caches = {"JAX_COMPILATION_CACHE_DIR": str(programs), "TORCHINDUCTOR_CACHE_DIR": str(programs / "torch")}
    log, begin = out / "work" / f"{name}.log", time.monotonic()
    with log.open("a") as stream:
        try:
            code = subprocess.run(
                command, env=os.environ | caches, stdout=stream, stderr=subprocess.STDOUT, timeout=seconds
            ).returncode
        except subprocess.TimeoutExpired:
            code = None
    kept = out / name
    files = [work / file for file in ("summary.csv", "timing.json", "environment.json", "config.json")]
    files += [work / file for file in ("curve.jsonl", "samples.png", "generator.safetensors")]  # of a training
    files += [file for file in sorted(work.glob("report/*.png")) if file.stat().st_size <= KEPT]
    rows = work.with_name(f"{name}.rows.json")
    for file in (file for file in (*files, rows) if file.exists()):
        kept.mkdir(exist_ok=True)
        shutil.copy(file, kept / file.name)
    return {
        "stage": name,
        "command": " ".join(["python", *command[1:]]),
        "finished": code == 0,
        "exit_code": code,  # None: out of time; the same line goes on
        "seconds": round(time.monotonic() - begin, 1),
        "tail": log.read_text()[-1500:].splitlines(),
        **about(),
    }


def main(arguments: list[str]) -> int:
    """The command line. Returns 0 if every stage that could run has finished."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, default=Path("."), help="folder with weights and images")
    parser.add_argument(
        "--only", nargs="+", choices=STAGES, default=list(STAGES), metavar="STAGE", help=", ".join(STAGES)
    )
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for all together")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes")
    settings = parser.parse_args(arguments)
    if settings.out.exists() and not settings.out.is_dir():
        parser.error(f"OUT is {settings.out}, a file; give a folder.")
    begin, good = time.monotonic(), True
    settings.out.mkdir(parents=True, exist_ok=True)
    for name in settings.only:
        stage, file = STAGES[name], settings.out / f"{name}.json"
        missing = [needed for needed in stage.needs if not (settings.data / needed).exists()]
        before = settings.out / f"{stage.after}.json"
        left = settings.seconds - (time.monotonic() - begin)
        if file.exists() and json.loads(file.read_text())["finished"]:
            said = "done before"
        elif missing:
            said = f"left out: no {', '.join(missing)} in {settings.data}"
        elif settings.rehearse and stage.rehearsal is None:
            said = "not rehearsed"
        elif stage.after and not (before.exists() and json.loads(before.read_text())["finished"]):
            said, good = f"left out: {stage.after} is not finished", False
        elif left < 30:
            said, good = "left out: no time", False
        else:
            found = perform(name, stage, settings.out, settings.data, settings.rehearse, min(LIMIT, left))
            file.write_text(json.dumps(found, indent=1))
            said, good = (
                f"{'done' if found['finished'] else found['tail'][-1:]} in {found['seconds']} s",
                good and found["finished"],
            )
        print(f"{name}: {said}", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
