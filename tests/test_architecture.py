"""The shape of the house, read from the source: imports go one way and files stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vidpara/__init__.py"
SOURCES = sorted((ROOT / "vidpara").rglob("*.py"))
STAGES = sorted((ROOT / "stages").glob("*.py"))

# A unit may import itself and units of lower layers; units of one layer do not know one another.
LAYERS: tuple[set[str], ...] = (
    {"config"},
    {"cli"},
    {"types", "exclusive", "files", "cores", "versions", "run_config"},
    {"geometry"},
    {"data", "models", "heads", "simulation", "model_card"},
    {"policy"},
    {"training", "evaluation"},
    {"build", "build_data", "check_actions", "report"},
    {"build_policy"},
    {"run_folder", "memory", "hub", "check_sources"},
    {"experiment"},
)
LAYER_OF = {unit: layer for layer, units in enumerate(LAYERS) for unit in units}
SIMULATOR = {"libero", "robosuite", "mujoco", "bddl"}
# Messages between the simulator's own processes are the one thing that may be pickled: never a file.
PIPES = "vidpara/simulation/workers.py"
PICKLING = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def imported(path: Path) -> Iterator[str]:
    """Absolute dotted names that a file imports, at any depth: `from a import b` gives `a.b`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} line {node.lineno}: write the import in full, from vidpara"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def unit_of(path: Path) -> str:
    return path.relative_to(ROOT / "vidpara").parts[0].removesuffix(".py")


def units_used(path: Path) -> set[str]:
    return {module.split(".")[1] for module in imported(path) if module.startswith("vidpara.")}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [path for path in SOURCES if path != PACKAGE], ids=name)
def test_imports_go_one_way(path: Path):
    unit = unit_of(path)
    assert unit in LAYER_OF, (
        f"{name(path)} belongs to no layer: put '{unit}' into LAYERS and docs/architecture.md"
    )
    others = units_used(path) - {unit}
    wrong = {other for other in others if LAYER_OF.get(other, len(LAYERS)) >= LAYER_OF[unit]}
    assert not wrong, f"{name(path)} imports {sorted(wrong)}, which lie beside or above '{unit}'"


@pytest.mark.parametrize("path", sorted((ROOT / "vidpara/training").glob("*.py")), ids=name)
def test_training_knows_only_a_module_whose_forward_returns_named_losses(path: Path):
    assert units_used(path) <= {
        "training",
        "types",
        "config",
        "cli",
        "exclusive",
        "files",
        "cores",
        "versions",
    }


@pytest.mark.parametrize("path", sorted((ROOT / "vidpara/evaluation").glob("*.py")), ids=name)
def test_the_closed_loop_knows_only_act_and_the_simulator(path: Path):
    if path.name != "evaluators.py":  # the trainer's own checks and pictures, on held-out clips
        assert not {"policy", "models", "heads", "data"} & units_used(path)


def test_the_package_itself_imports_nothing():
    assert not list(imported(PACKAGE))


def test_an_experiment_is_planned_and_published_without_models_and_simulator():
    """They take longer to import than most experiments to plan, and their steps are other processes."""
    loads = (
        "import sys, runpy; runpy.run_path('stages/reproduce.py', run_name='reproduce'); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", loads], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"diffusers", "transformers", "accelerate", *SIMULATOR} & set(done.stdout.split())


@pytest.mark.parametrize("path", STAGES, ids=name)
def test_stages_do_not_import_one_another(path: Path):
    assert not any(module.split(".")[0] == "stages" for module in imported(path))


@pytest.mark.parametrize("path", [*SOURCES, *STAGES], ids=name)
def test_the_simulator_is_imported_in_one_file(path: Path):
    if name(path) != "vidpara/simulation/libero.py":
        assert not SIMULATOR & {module.split(".")[0] for module in imported(path)}


@pytest.mark.parametrize("path", [*SOURCES, *STAGES], ids=name)
def test_no_file_is_pickled(path: Path):
    if name(path) != PIPES:
        assert not PICKLING & {module.split(".")[0] for module in imported(path)}
    called = {
        ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
    }
    assert not {"torch.load", "torch.save", "pickle.load", "pickle.dump"} & called


@pytest.mark.parametrize("path", [*SOURCES, *STAGES], ids=name)
def test_files_stay_small(path: Path):
    limit = 80 if path in STAGES else 300
    assert len(path.read_text().splitlines()) <= limit
