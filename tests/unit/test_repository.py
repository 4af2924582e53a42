"""Rules about the repository itself, which no tool of ours checks otherwise."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
RUNNER = ROOT / "runner_image" / "sandgraph_runner"
LOCKS = ["requirements.lock", "requirements-dev.lock", "requirements-build.lock", "bench/requirements-langgraph.lock"]

# Folders that are some machine's and nobody else's; a home folder has the name of a person after it.
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:home|Users)/[A-Za-z0-9]|(?<![\w.])/root/\.?[A-Za-z0-9]")


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True)
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def pins(lock: str) -> dict[str, str]:
    text = (ROOT / lock).read_text(encoding="utf-8")
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", text, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def wanted(*, dev: bool) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    # A deployment may need every extra but the developers' own, which names the others.
    extras = [extra for extra in project["optional-dependencies"] if dev or extra != "dev"]
    named = [*project["dependencies"], *(name for extra in extras for name in project["optional-dependencies"][extra])]
    return [each for each in map(Requirement, named) if each.name != project["name"]]


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            yield node.module


def test_the_source_root_is_no_package_and_so_hides_nothing() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()


def test_the_standard_library_keeps_its_platform_module() -> None:
    code = "import platform; print(platform.python_implementation())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == sys.implementation.name.replace("cpython", "CPython"), done.stderr


@pytest.mark.parametrize("module", sorted(RUNNER.glob("*.py")), ids=lambda path: path.name)
def test_the_runner_imports_the_standard_library_only(module: Path) -> None:
    allowed = sys.stdlib_module_names | {"sandgraph_runner"}
    foreign = {name for name in imports(ast.parse(module.read_bytes())) if name.partition(".")[0] not in allowed}
    assert not foreign


def test_the_runner_loads_without_site_packages() -> None:
    names = sorted(f"sandgraph_runner.{path.stem}" for path in RUNNER.glob("*.py") if path.stem != "__main__")
    code = f"import sys; sys.path.insert(0, {str(RUNNER.parent)!r}); " + "; ".join(f"import {name}" for name in names)
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_a_hash(lock: str) -> None:
    blocks = re.split(r"\n(?=\S)", (ROOT / lock).read_text(encoding="utf-8").strip())
    unhashed = [block for block in blocks if not block.startswith("#") and "--hash=sha256:" not in block]
    assert pins(lock)
    assert not unhashed


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_carry_no_addresses(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert not re.findall(r"\w+://\S+|--(?:extra-)?index-url|--find-links|--trusted-host", text)


@pytest.mark.parametrize(("lock", "dev"), [("requirements.lock", False), ("requirements-dev.lock", True)])
def test_locks_satisfy_the_project(lock: str, dev: bool) -> None:  # noqa: FBT001
    pinned = pins(lock)
    for requirement in wanted(dev=dev):
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{lock} does not pin {requirement.name}: run make lock"
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} is pinned to {version}"


def test_locks_agree_with_each_other() -> None:
    development = pins("requirements-dev.lock")
    for lock in ("requirements.lock", "requirements-build.lock"):
        assert pins(lock).items() <= development.items(), lock


def test_the_build_lock_holds_the_build_backend() -> None:
    system = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]
    for requirement in map(Requirement, system["requires"]):
        assert requirement.specifier.contains(pins("requirements-build.lock")[canonicalize_name(requirement.name)])


def test_no_tracked_file_names_a_folder_of_one_machine() -> None:
    found = []
    for name in tracked():
        text = (ROOT / name).read_bytes().decode("utf-8", errors="replace")
        found += [f"{name}: {line.strip()}" for line in text.splitlines() if MACHINE_PATHS.search(line)]
        if len(ROOT.parts) > 2 and ROOT.parts[1] != "opt" and f"{ROOT}/" in text:
            found.append(f"{name}: {ROOT}")
    assert not found


def test_modules_fit_on_a_few_screens() -> None:
    sources = [name for name in tracked() if name.endswith(".py") and name.startswith(("platform/", "runner_image/"))]
    long = {name for name in sources if len((ROOT / name).read_text(encoding="utf-8").splitlines()) > 500}
    assert sources
    assert not long


LOGGERS = {"logger", "_log", "log", "access"}
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


def unnamed_lines(tree: ast.AST) -> list[int]:
    """Return the lines of calls that log without saying, as ``extra={"action": …}`` or by a name, what happened."""
    found = []
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS):
            continue
        if not (isinstance(node.func.value, ast.Name) and node.func.value.id in LOGGERS | {"logging"}):
            continue
        extra = next((each.value for each in node.keywords if each.arg == "extra"), None)
        keys = extra.keys if isinstance(extra, ast.Dict) else []
        named = any(isinstance(key, ast.Constant) and key.value == "action" for key in keys)
        # Put together before, where it is more than fits on a few lines.
        if not (named or isinstance(extra, ast.Name)):
            found.append(node.lineno)
    return found


def test_every_line_that_is_logged_names_its_action() -> None:
    assert unnamed_lines(ast.parse('logger.info("x")\nlogger.info("x", extra={"run": 1})')) == [1, 2]
    assert unnamed_lines(ast.parse('logger.info("x", extra={"action": "x"})\nmath.log(3)')) == []
    sources = [name for name in tracked() if name.startswith("platform/") and name.endswith(".py")]
    lacking = [f"{name}:{line}" for name in sources for line in unnamed_lines(ast.parse((ROOT / name).read_bytes()))]
    assert lacking == []


def test_loggers_are_called_what_the_rule_above_looks_for() -> None:
    made = re.compile(r"^(\w+)\s*(?::[^=]+)?=\s*(?:logging\.getLogger|structlog\.\w*get_logger)\(", re.MULTILINE)
    sources = [name for name in tracked() if name.startswith("platform/sandgraph/") and name.endswith(".py")]
    names = {name for file in sources for name in made.findall((ROOT / file).read_text(encoding="utf-8"))}
    assert names <= LOGGERS
