"""The house's rules, read from the source: who may import whom, what is never committed, how long a room is."""

import ast
import importlib
import re
import subprocess

import numpy as np
import pytest

from configs import default
from dci_jax.check import check
from tests.conftest import ROOT
from tests.importers.bundle_test import write

PACKAGE = ROOT / "dci_jax"

# Imports go downwards only: a module may import from its own floor's folder and from the floors after it.
FLOORS = [
    ("api",),
    ("main", "demo", "cli_errors", "plan", "rates", "fingerprint", "experiment", "check", "convert"),
    ("evaluation",),
    ("report",),
    ("attacks",),
    ("dci",),
    ("defenses",),
    ("inputs", "data", "settings", "minimum_settings", "models", "checkpoints", "importers", "results"),
    (
        "cpu_kernels",
        "runtime",
        "network",
        "pieces",
        "arrays",
        "tensors",
        "losses",
        "metrics",
        "import_from_string",
        "errors",
        "typing",
    ),
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__")
        yield name.rstrip("."), path


def imports(path):
    """(full name, whether inside a function) of everything that a file imports."""
    tree = ast.parse(path.read_text())
    top = set(map(id, tree.body))
    tree.body = [
        node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
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
    room = name.partition(".")[0]
    assert room in FLOOR, f"give {room} a place in FLOORS"
    for imported, _ in imports(path):
        below = imported.split(".")[1] if imported.startswith("dci_jax.") else room
        assert FLOOR[below] >= FLOOR[room], f"{name} imports {imported}"


@pytest.mark.parametrize(("name", "path"), NAMED, ids=[name for name, _ in NAMED])
def test_no_function_is_longer_than_a_page(name, path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            lines = node.end_lineno - node.lineno + 1 - len((ast.get_docstring(node) or "").splitlines())
            assert lines <= 60, f"{name}.{node.name} has {lines} lines without its docstring"


OPERATORS = ("importers.aten", "importers.aten_spatial", "importers.onnx_operators", "importers.onnx_spatial")


@pytest.mark.parametrize(("name", "path"), NAMED, ids=[name for name, _ in NAMED])
def test_no_function_takes_more_than_seven_arguments_by_their_place(name, path):
    """But the operators of ATen and ONNX, whose signatures are given, and the update that a step compiles."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and name not in OPERATORS and node.name != "update":
            count = len(node.args.posonlyargs) + len(node.args.args)
            assert count <= 7, f"{name}.{node.name} takes {count}; give settings by name, behind a *"


def test_no_circle_of_imports():
    arrows = {
        name: {i.removeprefix("dci_jax.") for i, _ in imports(path) if i.startswith("dci_jax.")} for name, path in NAMED
    }
    while arrows:
        free = [name for name, below in arrows.items() if not below & arrows.keys()]
        assert free, f"a circle among {sorted(arrows)}"
        for name in free:
            del arrows[name]


def importers(of):
    return {
        name
        for name, path in modules()
        for imported, _ in imports(path)
        if imported.split(".")[0] == of or imported == of
    }


def test_data_free_is_a_fact_of_the_import_graph():
    assert importers("dci_jax.data.images") == {
        "api.auditing",
        "evaluation.images",
        "evaluation.image_scores",
        "evaluation.latents",
        "check",
    }
    assert importers("dci_jax.data.prepared") == {"data.images"}


def test_each_heavy_library_has_one_room():
    assert importers("orbax") == {"runtime.checkpoint"}
    assert importers("torch") == {"convert.source", "convert.graph", "convert.parity", "convert.answers"}
    assert importers("ml_collections") <= {
        "main",
        "experiment",
        "evaluation.positive_control",
        "check",
        "plan",
        "settings",
        "settings.check",
        "fingerprint",
        "evaluation.images",
        "evaluation.recorded",
        "evaluation.latents",
    }
    assert importers("matplotlib") == {"report.page", "report.joint"}
    assert importers("huggingface_hub") == {"checkpoints.hub"}
    assert importers("tensorflow_datasets") == {"data.prepared"}


def reached(name):
    """(modules of the package, other libraries) that a module imports, itself or through others, in functions, too."""
    paths, inside, outside = dict(modules()), {name}, set()
    queue = [name]
    while queue:
        for imported, _ in imports(paths[queue.pop()]):
            full = imported.removeprefix("dci_jax.") if imported.startswith("dci_jax.") else ""
            parts = full.split(".")  # to import a module runs the packages that it is in
            new = {".".join(parts[:end]) for end in range(len(parts) + 1)} & paths.keys() - inside
            inside |= new
            queue += new
            if imported.split(".")[0] != "dci_jax":
                outside.add(imported.split(".")[0])
    return inside, outside


@pytest.mark.parametrize("name", [name for name, _ in NAMED if name.partition(".")[0] == "report"])
def test_the_report_is_made_from_files_without_jax(name):
    inside, outside = reached(name)
    assert not outside & {"jax", "jaxlib", "flax", "optax", "orbax", "tensorflow"}, sorted(inside)


@pytest.mark.parametrize(("name", "path"), NAMED, ids=[name for name, _ in NAMED])
def test_the_librarys_errors_do_not_speak_of_the_command_line(name, path):
    if name in ("main", "cli_errors", "plan", "report.audit", "report.page", "settings.page", "report.recorded"):
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Raise):
            assert "--config" not in ast.unparse(node), f"{name}: {ast.unparse(node)}"


def test_html_is_in_templates_only():
    for name, path in NAMED:
        if name.partition(".")[0] == "report":
            assert not re.search(
                r"</?(a|b|code|div|figure|h\d|img|li|p|pre|small|t[dhr]|table|ul)\b[^<]*>", path.read_text()
            ), name


def test_what_the_rule_for_the_report_would_find():
    assert "jax" in reached("attacks.registry")[1]
    assert "runtime.files" in reached("report.page")[0]


def test_one_room_names_the_mesh_and_one_knows_of_other_processes():
    def rooms(pattern):
        return {name for name, path in NAMED if re.search(pattern, path.read_text())}

    assert rooms(r"make_mesh|Mesh\(") == {"runtime.sharding"}
    assert rooms(r"multihost_utils|signal\.signal") == {"runtime.distributed"}


@pytest.mark.parametrize(("name", "path"), NAMED, ids=[name for name, _ in NAMED])
def test_a_room_says_what_it_is_and_stays_small(name, path):
    text = path.read_text()
    assert text.startswith('"""'), f"{name} does not begin with what it is"
    assert len(text.splitlines()) <= 300
    assert not re.search(r"jax\.pmap|pjit|\bnnx\b", text)


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


def configs():
    """(name, variant) of every config in configs/."""
    for path in sorted((ROOT / "configs").glob("[a-z]*.py")):
        module = importlib.import_module(f"configs.{path.stem}")
        for variant in getattr(module, "VARIANTS", [""]):
            yield path.stem, variant


@pytest.mark.slow
@pytest.mark.parametrize(("name", "variant"), list(configs()))
def test_every_config_and_variant_passes_the_checks_and_has_all_fields(name, variant, tmp_path):
    module = importlib.import_module(f"configs.{name}")
    config, whole = module.get_config(*[variant] * bool(variant)), default.get_config()
    assert module.__doc__
    assert config.to_dict().keys() == whole.to_dict().keys()
    for section, content in whole.to_dict().items():
        if isinstance(content, dict):
            assert config[section].to_dict().keys() == content.keys(), section
    if not config.attacks:  # its command names the oracle's images
        config.oracle.images = str(tmp_path / "real.npz")
        np.savez(config.oracle.images, images=np.zeros((1, 32, 32, 3), np.uint8))
    if config.target.name == "bundle":  # the command line names it
        config.target.weights, config.splits, config.inputs.side = str(write(tmp_path / "bundle")[0]), (), 0
        config.synthesis.stages = tuple((8, steps) for _, steps in config.synthesis.stages)
    assert check(config, planned=True).splits
