"""The house's rules, read from the source: who may import whom, what is never committed, how long a room is."""

import ast
import re
import subprocess

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "dci_jax"

# Imports go downwards only, and never to a sibling: a module may import from the levels after its own.
LEVELS = [
    {"main", "train_target", "train_generator"},
    {"experiment", "plan", "depends"},
    {"generators"},
    {"arm"},
    {"setting"},
    {"report", "learning", "ranges"},
    {"joint", "report_codes", "evaluate_codes"},
    {"page", "evaluate", "attacks"},
    {
        "attacks.dci_trained",
        "attacks.dci",
        "attacks.deepinversion",
        "attacks.deep_image_prior",
        "attacks.gauss_newton",
        "attacks.inverse_network",
        "attacks.rmle",
        "synthesis",
    },
    {"attacks.matching", "attacks.objective", "attacks.solving"},
    {"attacks.linear_inverter"},
    {"attacks.spread", "attacks.least_squares", "attacks.factorised"},
    {"inputs"},
    {"models"},
    {
        "models.cifar_resnet",
        "models.resnet",
        "models.repvgg",
        "models.he_cnn",
        "models.sngan",
        "models.dcgan",
        "models.sources",
    },
    {
        "models.layers",
        "models.inverter",
        "models.weights",
        "models.discriminator",
        "optimize",
        "metrics",
        "data",
        "directions",
    },
    {
        "workdir",
        "prepared",
        "models.convolution",
        "blocks",
        "losses",
        "procedural",
        "latents",
        "defenses",
        "damages",
        "checkpoint",
        "progress",
    },
    {"hosts", "parallel"},
    {"named"},
    {"errors", "files"},
]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__")
        yield name.rstrip("."), path


def imports(path):
    """(full name, whether inside a function) of everything that a file imports."""
    tree = ast.parse(path.read_text())
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                exists = (ROOT / (full.replace(".", "/") + ".py")).exists()
                package = (ROOT / full.replace(".", "/") / "__init__.py").exists()
                yield (full if exists or package else node.module), id(node) in top


NAMED = [(name, path) for name, path in modules() if name]


@pytest.mark.parametrize(("name", "path"), NAMED, ids=[name for name, _ in NAMED])
def test_imports_go_downwards_only(name, path):
    assert name in LEVEL, f"give {name} a place in LEVELS"
    for imported, _ in imports(path):
        if imported.startswith("dci_jax."):
            below = imported.removeprefix("dci_jax.")
            assert LEVEL[below] > LEVEL[name], f"{name} imports {below}"


def importers(of):
    return {name for name, path in modules() for imported, _ in imports(path) if imported.split(".")[0] == of or imported == of}  # fmt: skip


def test_data_free_is_a_fact_of_the_import_graph():
    assert importers("dci_jax.data") == {"setting", "train_target", "train_generator"}
    assert importers("dci_jax.prepared") == {"data"}


def test_each_heavy_library_has_one_room():
    assert importers("orbax") == {"checkpoint"}
    assert importers("torch") == {"models.weights"}
    assert importers("ml_collections") <= {
        "main", "experiment", "generators", "arm", "setting", "learning", "plan", "ranges", "depends",
    }  # fmt: skip
    assert importers("matplotlib") == {"report", "report_codes", "joint"}
    assert importers("huggingface_hub") == {"models.sources"}
    assert importers("tensorflow_datasets") == {"prepared"}


def test_one_room_names_the_mesh_and_one_knows_of_other_processes():
    def rooms(pattern):
        return {name for name, path in NAMED if re.search(pattern, path.read_text())}

    assert rooms(r"make_mesh|Mesh\(") == {"parallel"}
    assert rooms(r"multihost_utils|signal\.signal") == {"hosts"}


def test_torch_is_imported_lazily():
    assert not any(top for imported, top in imports(PACKAGE / "models" / "weights.py") if imported == "torch")  # fmt: skip


@pytest.mark.parametrize(("name", "path"), NAMED, ids=[name for name, _ in NAMED])
def test_a_room_says_what_it_is_and_stays_small(name, path):
    text = path.read_text()
    assert text.startswith('"""'), f"{name} does not begin with what it is"
    assert len(text.splitlines()) <= 340
    assert not re.search(r"jax\.pmap|pjit|nnx\b", text)


def test_public_functions_are_documented():
    for name, path in NAMED:
        for node in ast.parse(path.read_text()).body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_"
            if public and node.name not in ("main",):
                assert ast.get_docstring(node), f"{name}.{node.name} has no docstring"


def test_no_data_is_committed():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout
    for file in files.split():
        assert not file.endswith((".th", ".pth", ".pt", ".zip", ".jpg", ".jpeg")), file
        assert (ROOT / file).stat().st_size < 4_000_000, file


def test_every_config_runs_through_the_checks_that_need_no_weights():
    import importlib

    from dci_jax.models import MODELS
    from dci_jax.setting import check_attack

    default = importlib.import_module("configs.default").get_config()
    for path in (ROOT / "configs").glob("*.py"):
        if path.stem == "__init__":
            continue
        module = importlib.import_module(f"configs.{path.stem}")
        config = module.get_config()
        assert module.__doc__, path
        assert config.target.name in MODELS
        for name in config.attacks:
            check_attack(name)
        assert config.to_dict().keys() == default.to_dict().keys()
        for section, content in default.to_dict().items():
            if isinstance(content, dict):
                assert config[section].to_dict().keys() == content.keys(), (path, section)
