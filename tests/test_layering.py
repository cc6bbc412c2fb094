"""The shape of the code base: imports point one way, and `--help` is quick because it needs no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("stylegan2", "encoders", "hyperstyle", "editing", "ui")  # each may import itself and what is left of it


def imported_packages(source: str) -> set[str]:
    """Top-level names of every absolute import, wherever in the file it stands."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


def climbs(package: str, source: str) -> set[str]:
    """The layers above `package` that `source` imports."""
    return imported_packages(source) & set(LAYERS[LAYERS.index(package) + 1 :])


@pytest.mark.parametrize("package", LAYERS)
def test_imports_point_one_way(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    wrong = {str(file.relative_to(ROOT)): found for file in files if (found := climbs(package, file.read_text()))}
    assert not wrong


def test_the_check_sees_an_import_that_climbs():
    assert climbs("encoders", "def f():\n    from editing.types import Inversion") == {"editing"}
    assert climbs("editing", "import stylegan2.zoo") == set()


def test_nothing_relative_and_no_wildcards():
    for package in LAYERS:
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ImportFrom):
                    assert node.level == 0 and all(alias.name != "*" for alias in node.names), file


HELP = """
import runpy, sys
sys.argv = ['x', *sys.argv[2:], '--help']
try:
    runpy.run_module(MODULE, run_name='__main__')
except SystemExit as end:
    assert not end.code, end.code
heavy = {'torch', 'numpy', 'scipy', 'PIL', 'dlib', 'onnxruntime', 'sklearn'} & set(sys.modules)
print('HEAVY', sorted(heavy))
"""

COMMANDS = (
    ("stylegan2.zoo",),
    ("editing.cli",),
    ("editing.cli", "invert"),
    ("editing.invert",),
    ("editing.edit",),
    ("editing.batch",),
    ("editing.text",),
    ("editing.evaluate",),
    ("ui.serve",),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_prints_usage_without_the_heavy_libraries(command):
    module = command[0]
    done = subprocess.run(
        [sys.executable, "-c", HELP.replace("MODULE", repr(module)), *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout
    assert "HEAVY []" in done.stdout
