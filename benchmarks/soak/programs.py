"""What is killed beside the main line: the Python API, the converter, the trainers.

Each takes a folder, goes on from what is there, and returns an exit code; given again until it ends, it must leave the
files of an undisturbed run.
"""

from pathlib import Path

import jax
import numpy as np

import dci_jax


def api(workdir: Path) -> int:
    """A prior is fitted and a chain solved with `cache_dir`, then saved."""
    network = dci_jax.load_network("cifar_resnet20")
    small = dict(num_images=32, num_validation=16, batch_size=16, num_corrections=1, kernel_size=3)
    prior = dci_jax.fit_prior(network, key=jax.random.key(0), num_steps=4, batch_size=8, progress=False)
    key, folder = jax.random.key(1), workdir / "attacks"
    chain = dci_jax.solve_chain(network, "layer1.0", prior, key=key, cache_dir=folder, progress=False, **small)
    chain.save(workdir / "chain.safetensors")
    return 0


def converter(workdir: Path) -> int:
    """A PyTorch network becomes a bundle."""
    from dci_jax.convert.__main__ import main

    if workdir.exists():  # a bundle that is complete
        return 0
    return main(["tests.convert.convert_test:mixed", "--size=32", f"--out={workdir}"])


def target(workdir: Path) -> int:
    """A ResNet-8 is trained on 40 images."""
    from training.target import main

    short = ("--model=cifar_resnet8", "--epochs=2", "--batch=20", "--statistics_batches=2")
    main([*_images(workdir), *short, f"--out={workdir / 'net.safetensors'}", f"--workdir={workdir}"])
    return 0


def generator(workdir: Path) -> int:
    """A narrow SNGAN is trained on 40 images."""
    from training.generator import main

    sizes = ("--batch=4", "--n_dis=2", "--ngf=8", "--ndf=8", "--statistics_batches=2", "--samples=20", "--steps=3")
    main([*_images(workdir), *sizes, f"--workdir={workdir}"])
    return 0


def _images(workdir):
    """The flags of a trainer that name its images; the file lies beside the folder."""
    file = workdir.parent / "x.npz"
    workdir.mkdir(exist_ok=True)
    if not file.exists():
        images = np.random.default_rng(0).integers(0, 255, (40, 32, 32, 3), np.uint8)
        draft = file.with_name(f"{workdir.name}.draft.npz")
        np.savez(draft, images=images, labels=np.arange(40) % 10)
        draft.replace(file)
    return f"--train_images={file}", f"--test_images={file}"


PROGRAMS = {"API": api, "converter": converter, "target": target, "generator's training": generator}
