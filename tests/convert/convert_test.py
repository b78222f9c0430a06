"""Networks of PyTorch become bundles whose answers are PyTorch's; what cannot be converted is one sentence."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dci_jax.dci.inverter import inverter_spec
from dci_jax.importers import bundle
from dci_jax.network import Network, classes, feature_shapes, run, running_statistics, split_names
from dci_jax.tensors import separate
from tests.command_line import ROOT, environment

pytestmark = pytest.mark.slow

torch = pytest.importorskip("torch")


def converted(capsys, *arguments):
    """(exit code, what it said, the sentence on stderr)."""
    from dci_jax.convert.__main__ import main

    code = main([str(a) for a in arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_network_of_timm_with_random_weights(tmp_path, capsys, timm):
    """The other families are those of docs/families.md."""
    more = "--random", "--size=64", "--classes=10", f"--out={tmp_path / 'b'}"
    code, said, error = converted(capsys, "timm:test_efficientnet", *more)
    assert code == 0, error
    manifest = json.loads((tmp_path / "b" / bundle.MANIFEST).read_text())
    parity = manifest["parity"]
    assert parity["forward"] < 1e-4
    assert parity["gradient"] < 1e-3
    assert parity["statistics"] < 1e-4
    network = bundle.load(tmp_path / "b")
    assert "blocks.1.0" in split_names(network)
    assert f"{len(split_names(network))} split points" in said
    found = jax.tree.leaves(running_statistics(network))
    assert len(found) == 2 * 13
    for index in range(len(network.blocks)):
        inverter_spec(network, index)  # every block can be inverted
    assert np.isfinite(run(network, jnp.ones((1, 64, 64, 3)))).all()


class Mixed(torch.nn.Module):
    """Eight convolutions, leaky ReLU, max-pooling, BatchNorm of eps 1e-3: nobody here tuned for it."""

    def __init__(self):
        super().__init__()
        layers, before = [], 3
        for width, count in ((16, 2), (32, 3), (64, 3)):
            for _ in range(count):
                layers += [
                    torch.nn.Conv2d(before, width, 3, padding=1, bias=False),
                    torch.nn.BatchNorm2d(width, eps=1e-3),
                ]
                layers.append(torch.nn.LeakyReLU(0.1))
                before = width
            layers.append(torch.nn.MaxPool2d(2))
        self.features = torch.nn.Sequential(*layers)
        self.classifier = torch.nn.Linear(before, 7)

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


def mixed():
    torch.manual_seed(0)
    return Mixed()


def unknown():
    """A median, which is no operator of a bundle."""

    class Median(torch.nn.Module):
        def forward(self, x):
            return torch.sort(x, -1)[0].mean((1, 2))

    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), Median())


def nothing_to_see():
    class Two(torch.nn.Module):
        def forward(self, x):
            return len(x), {"count": torch.ones(len(x), 1, dtype=torch.int32)}

    return Two()


def pyramid():
    """A detector that goes on with features of two sizes, and answers with both, in a list in a dict."""

    class Detector(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = torch.nn.Sequential(
                torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3, 1, 1)
            )
            self.top = torch.nn.Sequential(
                torch.nn.Conv2d(8, 6, 3, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(6, 6, 3, 1, 1)
            )
            self.boxes, self.classes = torch.nn.Conv2d(6, 4, 1), torch.nn.Conv2d(8, 5, 1)

        def forward(self, x):
            y = self.body(x)
            return {"scales": [(self.classes(y), self.boxes(self.top(y)))], "count": 1}

    torch.manual_seed(0)
    return Detector()


def data_dependent():
    class Branch(torch.nn.Module):
        def forward(self, x):
            return x if x.mean() > 0 else -x

    return Branch()


HERE = "tests.convert.convert_test"


def test_a_network_of_ones_own_is_cut_behind_every_convolution_and_audited(tmp_path, capsys):
    code, said, error = converted(
        capsys, f"{HERE}:mixed", "--size=32", "--mean", 0.5, "--std", 0.25, f"--out={tmp_path / 'b'}"
    )
    assert code == 0, error
    network = bundle.load(tmp_path / "b")
    assert len(split_names(network)) == 8
    assert feature_shapes(network)[-1] == (4, 4, 64)
    assert network.mean == (0.5,)
    assert "8 BatchNorm layers" in said
    # And the whole command line, which never imports torch, finds its way through it.
    workdir = tmp_path / "run"
    command = [sys.executable, "-m", "dci_jax.main", "--config=configs/audit.py", f"--workdir={workdir}"]
    command += ["--config.target.name=bundle", f"--config.target.weights={tmp_path / 'b'}", "--config.data.count=6"]
    first = split_names(network)[0]
    command += [f"--config.splits=('{first}',)", "--config.attacks=('dci',)"]
    command += [
        "--config.refine.splits=()",
        "--config.inverse_network.splits=()",
        "--config.batch=6",
        "--config.num_queries=(1,)",
    ]
    command += [
        "--config.defenses=(('none', 0.0), ('quantize', 2.0))",
        "--config.dci.num_images=32",
        "--config.dci.num_corrections=1",
        "--config.dci.kernel_size=3",
        "--config.prior_fitting.steps=2",
        "--config.inputs.dead_leaves=0.0",
        "--config.inputs.pink_noise=1.0",
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in (workdir / "results.jsonl").read_text().splitlines()]
    assert {row["split"] for row in rows} >= {first}


def test_what_was_converted_is_read_without_torch(tmp_path, capsys):
    assert converted(capsys, f"{HERE}:mixed", "--size=32", f"--out={tmp_path / 'b'}")[0] == 0
    code = f"""
import sys
sys.modules["torch"] = None
from dci_jax import models
network = models.load("bundle", {str(tmp_path / "b")!r})
assert len(network.blocks) == 8
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_pt2_file_and_its_function_are_one_network(tmp_path, capsys):
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(mixed().eval(), (torch.zeros(2, 3, 32, 32),), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "mixed.pt2")
    assert converted(capsys, tmp_path / "mixed.pt2", f"--out={tmp_path / 'a'}")[0] == 0
    assert converted(capsys, f"{HERE}:mixed", "--size=32", f"--out={tmp_path / 'b'}")[0] == 0
    a, b = bundle.load(tmp_path / "a"), bundle.load(tmp_path / "b")
    assert isinstance(a, Network)
    assert split_names(a) == split_names(b)
    x = jax.random.uniform(jax.random.key(0), (2, 32, 32, 3))
    np.testing.assert_allclose(run(a, x), run(b, x), atol=1e-5)


def logits_and_more():
    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = torch.nn.Sequential(
                torch.nn.Conv2d(3, 8, 3, 1, 1), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3, 1, 1)
            )
            self.head = torch.nn.Linear(8, 5)

        def forward(self, x):
            y = self.body(x)
            return self.head(y.mean((2, 3))), y

    torch.manual_seed(0)
    return Two()


def test_of_several_features_all_are_sent(tmp_path, capsys):
    code, out, error = converted(capsys, f"{HERE}:pyramid", "--size=32", f"--out={tmp_path / 'b'}")
    assert code == 0, error
    assert "16x16x5 + 8x8x6" in out
    assert "16x16x5 + 8x8x4" in out
    network = bundle.load(tmp_path / "b")
    assert split_names(network)[0].startswith("body")
    assert split_names(network)[-2:] == ("top", "outputs")
    assert [block.tensors for block in network.blocks[-2:]] == [((5, 2), (6, 1)), ((5, 2), (4, 1))]
    x = jax.random.uniform(jax.random.key(0), (2, 32, 32, 3))
    ((classes, boxes),) = pyramid()(torch.from_numpy(np.moveaxis(np.array(x), 3, 1).copy()))["scales"]
    theirs = [np.moveaxis(t.detach().numpy(), 1, 3) for t in (classes, boxes)]
    for ours, wanted in zip(separate(run(network, x), network.blocks[-1].tensors), theirs, strict=True):
        np.testing.assert_allclose(ours, wanted, atol=1e-5)


def test_logits_that_come_first_are_the_answer(tmp_path, capsys, caplog):
    code, _, error = converted(capsys, f"{HERE}:logits_and_more", "--size=32", f"--out={tmp_path / 'b'}")
    assert code == 0, error
    assert "returns 2 tensors (answer[0], answer[1]): answer[0] is taken for its answer" in caplog.text
    network = bundle.load(tmp_path / "b")
    assert classes(network) == 5
    assert not any(block.tensors for block in network.blocks)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["timm:resnet1"], "timm has no network 'resnet1'; perhaps "),
        (["nothing"], "'nothing' is no network; give timm:NAME"),
        (["nowhere:function"], "Could not import 'nowhere:function'"),
        (["json:dumps"], "json:dumps failed"),
        (["time:time"], "time:time returned a float"),
        (["missing.pt2"], "No file at missing.pt2"),
        ([f"{HERE}:unknown"], "The operator 'sort' (in 1) cannot be converted"),
        ([f"{HERE}:nothing_to_see"], "returns a tuple without a tensor [B, ...]; give a network that returns one"),
        (["hf:org/net"], "timm's, which are there too, as timm:hf-hub:org/net"),
        ([f"{HERE}:data_dependent"], "cannot be exported for any batch size"),
        ([f"{HERE}:mixed", "--size=-3"], "--size is -3"),
        ([f"{HERE}:mixed", "--size=4"], "does not take images of [3, 4, 4]"),
        ([f"{HERE}:mixed", "--size=32", "--std", "0"], "--std is (0.0,)"),
        ([f"{HERE}:mixed", "--size=32", "--mean", ".1", ".2"], "--mean is (0.1, 0.2)"),
        ([f"{HERE}:mixed", "--size=32", "--crop=2"], "--crop is 2.0"),
        ([f"{HERE}:mixed", "--classes=3"], "--classes is 3, but only timm's"),
        ([f"{HERE}:mixed", "--weights=no.pth"], "No checkpoint at no.pth"),
        (["timm:resnet18", "--random", "--weights=x.pth"], "contradict each other"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(tmp_path, capsys, request, arguments, sentence):
    if arguments[0].startswith("timm:"):
        request.getfixturevalue("timm")
    code, _, error = converted(capsys, *arguments, f"--out={tmp_path / 'b'}")
    last = error.strip().splitlines()[-1]
    assert code == 2
    assert last.startswith("dci_jax.convert: ")
    assert sentence in last
    assert not list(tmp_path.iterdir())


def test_a_damaged_pt2_and_an_existing_folder_are_one_sentence(tmp_path, capsys):
    (tmp_path / "bad.pt2").write_bytes(b"PK\x03\x04 no archive")
    code, _, error = converted(capsys, tmp_path / "bad.pt2", f"--out={tmp_path / 'b'}")
    assert (code, "cannot be read" in error) == (2, True)
    code, _, error = converted(capsys, f"{HERE}:mixed", f"--out={tmp_path}")
    assert (code, "is there already" in error) == (2, True)


class Attention(torch.nn.Module):
    """Patches of 4 px and one layer of attention by PyTorch's own function."""

    def __init__(self):
        super().__init__()
        self.patches = torch.nn.Conv2d(3, 32, 4, 4)
        self.layer = torch.nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True)
        self.head = torch.nn.Linear(32, 5)

    def forward(self, x):
        return self.head(self.layer(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


def attention():
    torch.manual_seed(0)
    return Attention()


def test_pytorchs_own_attention_is_converted(tmp_path, capsys):
    code, said, error = converted(capsys, f"{HERE}:attention", "--size=32", f"--out={tmp_path / 'b'}")
    assert code == 0, error
    network = bundle.load(tmp_path / "b")
    assert feature_shapes(network)[-1] == (8, 8, 32)
    assert "0 BatchNorm layers" in said
