"""The tool registry, in a user's own process and inside a job."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from sandgraph_runner import tools as module
from sandgraph_runner.tools import ToolRegistry, get_global_registry, job_tools, tool, tools


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    kept = dict(tools._own)
    yield
    tools._own.clear()
    tools._own.update(kept)


def test_functions_are_invoked_by_name() -> None:
    registry = ToolRegistry()

    def greet(who: str, *, loud: bool = False) -> str:
        """Say hello.

        And no more.
        """
        return f"hello {who}".upper() if loud else f"hello {who}"

    registry.add(greet)
    registry.add(len, name="size", description="How many")
    assert registry.invoke("greet", "you", loud=True) == "HELLO YOU"
    assert registry.invoke("size", [1, 2]) == 2
    assert registry.names() == ["greet", "size"]
    assert registry.describe() == [
        {"name": "greet", "description": "Say hello."},
        {"name": "size", "description": "How many"},
    ]
    assert "greet" in registry
    assert registry.get("greet") is greet


def test_an_unknown_tool_lists_those_there_are() -> None:
    registry = ToolRegistry()
    with pytest.raises(LookupError, match="no tool 'x'; registered: none"):
        registry.invoke("x")
    registry.add(len)
    with pytest.raises(LookupError, match="registered: len"):
        registry.invoke("x")


def test_a_tools_argument_may_be_called_name() -> None:
    registry = ToolRegistry()
    registry.add(lambda name: name, name="echo")
    assert registry.invoke("echo", name="n") == "n"


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(TypeError, match="not int"):
        ToolRegistry().add(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="give it one"):
        ToolRegistry().add(type("Callable", (), {"__call__": lambda self: self})())


def test_the_decorator_with_and_without_arguments() -> None:
    @tool
    def plain() -> int:
        return 1

    @tool(name="named", description="Named")
    def other() -> int:
        return 2

    assert (plain(), other()) == (1, 2)
    assert (tools.invoke("plain"), get_global_registry().invoke("named")) == (1, 2)
    assert {"name": "named", "description": "Named"} in tools.describe()


def test_a_job_has_its_own_tools_on_top_and_leaves_none_behind() -> None:
    tools.add(lambda: "outer", name="a")
    tools.add(lambda: "outer", name="b")
    loads = []

    def load() -> module.Function:
        loads.append(1)
        return lambda: "inner"

    with job_tools({"a": load}):
        assert loads == []
        assert [tools.invoke("a"), tools.invoke("a"), tools.invoke("b")] == ["inner", "inner", "outer"]
        tools.add(lambda: "mine", name="c")
        assert loads == [1]
    assert tools.invoke("a") == "outer"
    assert "c" not in tools


def test_threads_of_a_job_find_its_tools_where_it_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module._GlobalRegistry, "process_wide", None)
    found = []
    with job_tools({"a": lambda: len}):
        for _ in range(2):
            thread = threading.Thread(target=lambda: found.append("a" in tools))
            thread.start()
            thread.join()
            module.keep_for_threads()
    assert found == [False, True]
