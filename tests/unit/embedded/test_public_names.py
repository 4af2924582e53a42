"""What ``sandgraph`` offers: sorted, importable, documented, and quick to import."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import sandgraph
from sandgraph import errors

DOCS = Path(__file__).resolve().parents[3] / "docs" / "python-api.md"


def test_names_are_sorted_and_there_once() -> None:
    assert sandgraph.__all__ == sorted(set(sandgraph.__all__))


@pytest.mark.parametrize("name", sandgraph.__all__)
def test_every_name_is_public_importable_and_documented(name: str) -> None:
    assert name == "__version__" or not name.startswith("_")
    assert hasattr(sandgraph, name)
    assert f"`{name}`" in DOCS.read_text(encoding="utf-8").partition("## Names")[2]


def test_every_public_error_is_offered() -> None:
    tree = {
        name for name, value in vars(errors).items() if isinstance(value, type) and value.__module__ == errors.__name__
    }
    assert tree <= set(sandgraph.__all__)


def test_the_version_is_the_packages() -> None:
    assert sandgraph.__version__ == importlib.metadata.version("sandgraph")


def test_importing_it_loads_neither_server_nor_database_nor_docker() -> None:
    heavy = ["docker", "fastapi", "sqlmodel", "starlette", "uvicorn"]
    code = "import sys, sandgraph; print(sorted({*sys.argv} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_module_can_be_imported_first() -> None:
    names = [
        ".".join(path.relative_to(Path(sandgraph.__file__).parents[1]).with_suffix("").parts)
        for path in (Path(sandgraph.__file__).parent / "embedded").glob("[a-z]*.py")
    ]
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    assert len(names) > 5
    subprocess.run([sys.executable, "-c", code, *names], check=True)
