"""A job without a process around it: what a function may return, what becomes of it, and what is asked afterwards."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from tests.unit.runner.driver import source

from sandgraph_runner.account import Account
from sandgraph_runner.child import run_job
from sandgraph_runner.protocol import Condition, Job, Reason, Source
from sandgraph_runner.tools import tools


def outcome(job: Job, state: dict[str, Any] | None = None) -> dict[str, Any]:
    done = run_job(job, json.dumps(state or {}).encode())
    assert isinstance(done, bytes), done
    read: dict[str, Any] = json.loads(done)
    return read


def ops(body: str, state: dict[str, Any] | None = None, **job: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401 - Job's
    """Return what the function with this body changes, as tuples."""
    return [tuple(op.values())[1:] for op in outcome(Job(function=source(body), **job), state)["ops"]]


def account(job: Job, state: dict[str, Any] | None = None) -> Account:
    done = run_job(job, json.dumps(state or {}).encode())
    assert isinstance(done, Account), done
    return done


def expressions(*texts: str) -> tuple[Condition, ...]:
    return tuple(Condition(expression=text) for text in texts)


# What a function changes.


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("pass", []),
        ("return state", []),
        ("return {}", []),
        ("state.set('z', 1); state.set('b', 2)", [("b", 2), ("z", 1)]),
        ("return {'b': 2}", [("b", 2)]),
        ("state['b'] = 1; return {'b': 2, 'c': 3}", [("b", 2), ("c", 3)]),
        ("state.delete('n')", [("n",)]),
        ("state.delete('n'); state['n'] = 1", []),
        ("state.delete('n'); return {'n': 2}", [("n", 2)]),
        ("state['new'] = 1; state.delete('new')", []),
        ("state['n'] = 1", []),
        ("state['n'] = True", [("n", True)]),
        ("state['n'] = 1.0", [("n", 1.0)]),
        ("state['n'] = None", [("n", None)]),
        ("state['rows'].append(4)", [("rows", [1, [2, 3], 4])]),
        ("state['rows'][1].append(4)", [("rows", [1, [2, 3, 4]])]),
        ("state.get('rows')[1].append(4)", [("rows", [1, [2, 3, 4]])]),
        ("dict(state.items())['rows'].pop()", [("rows", [1])]),
        ("state.values()[1].pop()", [("rows", [1])]),
        ("state['rows'].append(4); state['rows'].pop()", []),
        ("state['rows'] = list(state['rows'])", []),
        ("state['rows'] = (1, (2, 3))", []),
        ("state['rows'] = state['rows'] + [4]", [("rows", [1, [2, 3], 4])]),
        ("state.to_dict()['rows'].append(4)", []),
        ("state['rows'] = state['map']", [("rows", {"a": {"b": None}, "c": 1})]),
        ("state['rows'] = 'text'", [("rows", "text")]),
        ("state['map']['a']['b'] = 0", [("map", {"a": {"b": 0}, "c": 1})]),
        ("state['map']['c'] = True", [("map", {"a": {"b": None}, "c": True})]),
        ("return {'map': {'c': 1, 'a': {'b': None}}}", [("map", {"c": 1, "a": {"b": None}})]),
        ("state['ü'] = '\\u2028\\x00'", [("ü", "\u2028\x00")]),
        ("return {'nan': 'NaN', '__proto__': {}, '$ref': 1}", [("$ref", 1), ("__proto__", {}), ("nan", "NaN")]),
    ],
)
def test_the_diff_is_what_changed(body: str, expected: list[tuple[Any, ...]]) -> None:
    state = {"n": 1, "rows": [1, [2, 3]], "map": {"a": {"b": None}, "c": 1}}
    found = ops(body, state)
    assert found == expected
    assert repr(found) == repr(expected)


def test_nothing_is_kept_of_a_function_that_raises() -> None:
    told = account(
        Job(function=source("state['rows'].append(1); state['x'] = 1; raise ValueError('no')")), {"rows": []}
    )
    assert (told.type, told.message, told.key, told.condition) == ("ValueError", "no", None, None)
    assert told.reason is Reason.ERROR


def test_a_subclass_of_a_json_type_is_what_it_is_derived_from() -> None:
    body = """
    import enum
    from collections import OrderedDict, defaultdict, namedtuple
    class Evil(str):
        def __str__(self): return "changed"
        def __eq__(self, other): return True
        __hash__ = str.__hash__
    class Items(dict):
        def items(self): return [("changed", 1)]
        def __iter__(self): return iter(["changed"])
    class Number(int):
        def __repr__(self): return "99"
    class Color(enum.IntEnum):
        RED = 3
    def f(state):
        point = namedtuple("Point", "x y")(1, 2)
        counts = defaultdict(int, a=1)
        kept = {Evil("k"): 1}
        return OrderedDict(a=Evil("text"), b=Items(real=1), c=Number(7), d=Color.RED, e=point, f=counts, g=kept)
    """
    expected = [("a", "text"), ("b", {"real": 1}), ("c", 7), ("d", 3), ("e", [1, 2]), ("f", {"a": 1}), ("g", {"k": 1})]
    assert ops(body) == expected


@pytest.mark.parametrize(
    ("value", "says", "kind"),
    [
        ("{1, 2}", "x is of the type set, which JSON does not have; use a list", "TypeError"),
        ("b'a'", "x is of the type bytes", "TypeError"),
        ("lambda: 1", "x is of the type function", "TypeError"),
        ("object()", "x is of the type object", "TypeError"),
        ("1j", "x is of the type complex", "TypeError"),
        ("state", "x is of the type WorkflowState, which JSON does not have; use its to_dict()", "TypeError"),
        ("(i for i in [])", "x is of the type generator", "TypeError"),
        ("__import__('datetime').datetime.now()", "store its isoformat()", "TypeError"),
        ("float('nan')", "x is nan", "ValueError"),
        ("[float('inf')]", "x[0] is inf", "ValueError"),
        ("2**63", "x is an integer beyond ±2^63", "ValueError"),
        ("{'a': [-2**63 - 1]}", "x['a'][0] is an integer", "ValueError"),
        ("'\\ud800'", "x is not valid text: it holds a lone surrogate (U+D800 at 0)", "ValueError"),
        ("{'a': {'\\udfff': 1}}", "x['a']['\\udfff'] is not valid text", "ValueError"),
        ("{1: 2}", "x has the key 1 of the type int; JSON keys are strings", "TypeError"),
        ("{'a': [{None: 2}]}", "x['a'][0] has the key None of the type NoneType", "TypeError"),
        ("{(1, 2): 2}", "x has the key (an object) of the type tuple", "TypeError"),
        ("(lambda l: (l.append(l), l)[1])([])", "nested deeper than the limit, or contains itself", "ValueError"),
        ("(lambda d: (d.update(d=d), d)[1])({})", "nested deeper than the limit, or contains itself", "ValueError"),
    ],
)
def test_a_value_that_cannot_be_stored_names_its_key_and_where(value: str, says: str, kind: str) -> None:
    for body in (f"state['x'] = {value}", f"return {{'x': {value}}}"):
        told = account(Job(function=source(body)), {"x": 1})
        assert told.message.startswith("state key 'x': x")
        assert says in told.message
        assert (told.key, told.type, told.reason) == ("x", kind, Reason.RESULT_INVALID)


@pytest.mark.parametrize(
    ("key", "says", "named"),
    [("1", "is a key of the type int", "1"), ("''", "is empty", ""), ("'\\ud800'", "lone surrogate", "'\\ud800'")],
)
def test_a_key_that_cannot_be_is_named(key: str, says: str, named: str) -> None:
    told = account(Job(function=source(f"return {{{key}: 1}}")))
    assert says in told.message
    assert (told.key, told.reason) == (named, Reason.RESULT_INVALID)
    assert told.to_json().decode()


def test_keys_of_a_hostile_class_are_an_error_like_any_other() -> None:
    body = """
    class Key(str):
        __hash__ = str.__hash__
        def __eq__(self, other): raise SystemExit
        def __repr__(self): raise SystemExit
        def __len__(self): raise SystemExit
    def f(state):
        return {Key("a"): 1, "b": {Key("c"): {1}}}
    """
    assert account(Job(function=source(body)), {"a": 1}).type == "SystemExit"
    told = account(Job(function=source(body)), {"x": 1})
    assert (told.key, told.message.partition(" is ")[0]) == ("b", "state key 'b': b['c']")


def test_an_empty_key_that_is_there_already_does_no_harm() -> None:
    assert ops("return {'n': state['']}", {"": 1}) == [("n", 1)]
    assert ops("state.delete('')", {"": 1}) == [("",)]
    assert outcome(Job(after=expressions("state[''] == 1")), {"": 1})["after"] == [True]


def test_depth_is_counted_within_the_value() -> None:
    deep = "state['x'] = {'a': [[1]]}"
    assert ops(deep, max_depth=3) == [("x", {"a": [[1]]})]
    assert account(Job(function=source(deep), max_depth=2)).key == "x"


def test_very_deep_values_are_refused_without_a_crash() -> None:
    body = "x = []\nfor _ in range(100_000): x = [x]\nstate['x'] = x"
    assert account(Job(function=source(body))).key == "x"


def test_too_many_keys_are_refused() -> None:
    assert len(ops("return {f'k{i}': i for i in range(9)}", {"a": 1}, max_keys=10)) == 9
    told = account(Job(function=source("return {f'k{i}': i for i in range(10)}"), max_keys=10), {"a": 1})
    assert (told.key, told.reason) == ("k9", Reason.RESULT_INVALID)
    assert "11 keys, 10 are allowed" in told.message


def test_too_large_a_result_is_refused() -> None:
    told = account(Job(function=source("return {'x': 'ä' * 600}"), max_result_bytes=1000))
    assert (told.key, told.reason) == ("x", Reason.RESULT_INVALID)


def test_integers_at_the_edge_are_kept() -> None:
    assert ops("return {'a': 2**63 - 1, 'b': -2**63}") == [("a", 2**63 - 1), ("b", -(2**63))]


# What a function may be and return.


def test_an_async_function_runs_to_its_end() -> None:
    body = """
    import asyncio
    async def f(state):
        await asyncio.sleep(0)
        return {"x": await asyncio.gather(*(asyncio.sleep(0, i) for i in range(3)))}
    """
    assert ops(body) == [("x", [0, 1, 2])]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (
            "return 3",
            "the function 'f' returned a value of the type int; return None, the state it was given, or a dict",
        ),
        ("return [('a', 1)]", "of the type list"),
        ("return WorkflowState({'a': 1})", "returned another WorkflowState"),
        ("yield 1", "the function 'f' returned a generator"),
        ("import asyncio\nasync def g(): yield 1\nreturn g()", "returned a generator"),
        ("class A:\n    def __await__(self): yield\nreturn A()", "returned an awaitable of the type A"),
    ],
)
def test_another_return_is_an_error_that_says_what_to_return(body: str, says: str) -> None:
    told = account(Job(function=source(body)))
    assert (told.type, told.key, told.reason) == ("TypeError", None, Reason.ERROR)
    assert says in told.message


def test_a_function_of_other_arguments_is_an_error() -> None:
    assert account(Job(function=source("def f(): ..."))).type == "TypeError"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("x = 1", "LookupError"),
        ("f = 3", "TypeError"),
        ("def f(:", "SyntaxError"),
        ("1/0\ndef f(s): ...", "ZeroDivisionError"),
    ],
)
def test_code_without_the_function_is_an_error(code: str, kind: str) -> None:
    assert account(Job(function=Source("f", code))).type == kind


def test_the_state_tells_which_attempt_this_is() -> None:
    body = "return {'is': [state.run_id, state.node, state.iteration, state.attempt, state.idempotency_key]}"
    found = ops(body, run_id="r", node="n", iteration=2, attempt=3, idempotency_key="k")
    assert found == [("is", ["r", "n", 2, 3, "k"])]


def test_tools_are_loaded_when_they_are_invoked_and_may_invoke_each_other() -> None:
    jobs_tools = (
        Source("double", "def double(x): return x * 2"),
        Source(
            "quadruple",
            "from sandgraph_runner.tools import tools as t\n"
            "def quadruple(x): return tools.invoke('double', t.invoke('double', x))",
        ),
        Source("broken", "1/0"),
        Source("absent", "x = 1"),
    )
    body = """
    errors = []
    for name in ("broken", "absent", "unknown"):
        try: tools.invoke(name)
        except Exception as error: errors.append(f"{type(error).__name__}: {error}")
    return {"errors": errors, "n": get_global_registry().invoke("quadruple", 3), "names": tools.names()}
    """
    found = dict(ops(body, tools=jobs_tools))
    assert found["n"] == 12
    assert found["names"] == ["absent", "broken", "double", "quadruple"]
    assert found["errors"] == [
        "ZeroDivisionError: division by zero",
        "LookupError: the code of the tool 'absent' defines no 'absent'",
        "LookupError: there is no tool 'unknown'; registered: absent, broken, double, quadruple",
    ]
    assert "double" not in tools


def test_live_functions_stand_in_for_sources() -> None:
    def f(state: Any) -> dict[str, int]:  # noqa: ANN401 - a state
        return {"x": tools.invoke("t", state["x"])}

    job = Job(function=Source("f", ""), tools=(Source("t", ""),), after=(Condition(function=Source("c", "")),))
    live = {"f": f, "t": lambda x: x + 1, "c": lambda state: state["x"] > 1}
    done = run_job(job, b'{"x": 1}', callables=live)
    assert isinstance(done, bytes)
    assert json.loads(done)["after"] == [True]


def test_nothing_is_left_in_the_process() -> None:
    before = set(sys.modules)
    outcome(Job(function=source("import sys; assert __name__ in sys.modules")))
    account(Job(function=source("1/0")))
    account(Job(function=Source("f", "1/0")))
    assert set(sys.modules) == before


# Conditions.


def test_conditions_read_keys_as_attributes_after_the_function() -> None:
    job = Job(
        function=source("state['n'] += 1; state['pair'] = (1, 2); state['items'].append(3)"),
        after=expressions("state.n == 2", "state['n'] > 2", "'m' in state", "state.get('m', 5)", "state.pair == [1, 2]",
                          "state.items[-1] == 3", "len(state.items) == state.n", "state.node == 'here'", "[]"),
        node="here",
    )  # fmt: skip
    assert outcome(job, {"n": 1, "items": [1]})["after"] == [True, False, False, True, True, True, True, True, False]


def test_a_function_can_be_a_condition() -> None:
    job = Job(
        after=(
            Condition(function=source("return state['n'] > 1 and 'n' in dict(state.items())", "big")),
            Condition(function=source("async def quick(state): return state.get('n') < 1", "quick")),
        )
    )
    assert outcome(job, {"n": 2, "items": 1})["after"] == [True, False]


def test_conditions_cannot_change_what_others_see_nor_the_diff() -> None:
    job = Job(
        function=source("state['rows'].append(2)"),
        before=Condition(expression="state.rows.append(9) is None"),
        after=expressions("state.rows.append(3) or True", "state.rows == [1, 2]"),
    )
    found = outcome(job, {"rows": [1]})
    assert found["after"] == [True, True]
    assert found["ops"] == [{"op": "set", "key": "rows", "value": [1, 2]}]


@pytest.mark.parametrize(
    ("expression", "kind", "says"),
    [
        ("state.missing > 1", "AttributeError", "the state has no key 'missing'; it has n"),
        ("1/0", "ZeroDivisionError", "division"),
        ("exit_now()", "NameError", "exit_now"),
        ("(_ for _ in ()).throw(SystemExit(0))", "SystemExit", "exit"),
        ("state.set('n', 2)", "TypeError", "may not change the state"),
        ("(x for x in [])", "TypeError", "generator"),
        ("1 +", "SyntaxError", "invalid syntax"),
    ],
)
def test_a_condition_that_raises_is_named(expression: str, kind: str, says: str) -> None:
    told = account(Job(after=expressions("True", expression)), {"n": 1})
    assert (told.condition, told.type, told.key) == (expression, kind, None)
    assert says in told.message


def test_a_condition_function_that_raises_is_named() -> None:
    told = account(Job(again=Condition(function=source("1/0", "check"))))
    assert told.condition == "check"
    assert 'File "<function check>", line 2, in check' in told.traceback


def test_truth_is_asked_for_and_may_raise() -> None:
    body = """
    class Sly:
        def __bool__(self): raise ValueError("neither")
    def c(state): return Sly()
    """
    assert account(Job(after=(Condition(function=source(body, "c")),))).message == "neither"


YES, NO = Condition(expression="True"), Condition(expression="False")


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        (Job(), (True, None, [], 0)),
        (Job(function=source("state['x'] = 1")), (True, None, [], 1)),
        (Job(function=source("state['x'] = 1"), after=(YES, NO)), (True, None, [True, False], 1)),
        (Job(function=source("state['x'] = 1"), before=NO, again=YES, after=(YES,)), (False, None, [True], 0)),
        (Job(function=source("state['x'] = 1"), before=YES, again=YES, after=(YES,)), (True, True, [], 1)),
        (Job(function=source("state['x'] = 1"), again=NO, after=(YES,)), (True, False, [True], 1)),
        (Job(function=source("state['x'] = 1"), again=YES, is_last=True, after=(NO,)), (True, True, [False], 1)),
        (Job(again=NO, after=(YES,)), (True, False, [True], 0)),
        (Job(before=YES, after=(YES,)), (True, None, [True], 0)),
    ],
)
def test_what_is_asked_and_when(job: Job, expected: tuple[bool, bool | None, list[bool], int]) -> None:
    found = outcome(job)
    assert (found["entered"], found["again"], found["after"], len(found["ops"])) == expected


def test_before_sees_the_state_before_and_again_the_state_after() -> None:
    job = Job(
        function=source("state['n'] += 1"),
        before=Condition(expression="state.n == 1"),
        again=Condition(expression="state.n == 2"),
    )
    found = outcome(job, {"n": 1})
    assert (found["entered"], found["again"]) == (True, True)


def test_what_is_not_reached_is_not_asked() -> None:
    raising = Condition(expression="1/0")
    assert outcome(Job(before=NO, again=raising))["entered"] is False
    assert outcome(Job(again=YES, after=(raising,)))["again"] is True
