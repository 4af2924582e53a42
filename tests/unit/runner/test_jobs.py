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


def result(body: str, item: object = 3, state: dict[str, Any] | None = None, **job: Any) -> object:  # noqa: ANN401
    """Return what the function of this code has as its result for an item, the second of three."""
    found = outcome(item_job(body, **job), {**(state or {}), "items": [0, item, 0]})
    assert (found["ops"], found["entered"], found["again"], found["after"]) == ([], True, None, [])
    return found["value"]


def item_job(body: str, **job: Any) -> Job:  # noqa: ANN401 - Job's fields
    code = body if "def f(" in body or "f = " in body else f"def f(item):\n    {body}"
    return Job(**{"function": Source("f", code), "item_key": "items", "item_index": 1, **job})


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
    names = ("run_id", "node", "iteration", "attempt", "idempotency_key", "scope")
    asked = f"[{', '.join(f'state.{name}' for name in names)}]"
    told: dict[str, Any] = dict(zip(names, ["r", "n", 2, 3, "k", "outer/inner"], strict=True))
    assert ops(f"return {{'is': {asked}}}", **told) == [("is", list(told.values()))]
    is_told = expressions(f"{asked} == {list(told.values())}")
    assert outcome(Job(after=is_told, **told))["after"] == [True]
    assert result(f"def f(item, state): return {asked}", **told) == list(told.values())


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


# Items of a map.


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        ("item * 2", 6),
        ("None", None),
        ("False", False),
        ("[]", []),
        ("{}", {}),
        ("{'items': item}", {"items": 3}),
        ("(1, (2.5, 'ü\u2028'))", [1, [2.5, "ü\u2028"]]),
        ("2**63 - 1", 2**63 - 1),
    ],
)
def test_what_a_maps_function_returns_is_the_result(returned: str, expected: object) -> None:
    found = result(f"return {returned}")
    assert repr(found) == repr(expected)


WRAPPED = """
import functools
def twice(function):
    @functools.wraps(function)
    def wrapper(*args, **named):
        return [function(*args, **named)] * 2
    return wrapper
@twice
"""


def test_any_other_outcome_has_no_result() -> None:
    assert outcome(Job(function=source("return {'x': 1}")))["value"] is None


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def f(item): return [item]", [3]),
        ("def f(item, state): return [item, state['n']]", [3, 5]),
        ("def f(a, b, /): return [a, b['n']]", [3, 5]),
        ("def f(a, b=None): return [a, b['n']]", [3, 5]),
        ("def f(*both): return [both[0], both[1]['n']]", [3, 5]),
        ("def f(item, *rest): return [item, len(rest)]", [3, 1]),
        ("def f(item, *, state): return [item, state['n']]", [3, 5]),
        ("def f(item, factor=2, *, state=None): return [factor, state['n']]", [2, 5]),
        ("def f(item, *, other=1): return [other]", [1]),
        ("def f(item, **named): return [named]", [{}]),
        ("f = lambda item, state: [item, state['n']]", [3, 5]),
        ("async def f(item, state): return [item, state['n']]", [3, 5]),
        ("import asyncio\nasync def f(item):\n    await asyncio.sleep(0)\n    return item", 3),
        ("class F:\n    def __call__(self, item): return [item]\nf = F()", [3]),
        ("class F:\n    def __call__(self, item, state): return [item, state['n']]\nf = F()", [3, 5]),
        ("class F:\n    def m(self, item): return [item]\nf = F().m", [3]),
        ("class F:\n    def m(self, item, *, state): return [state['n']]\nf = F().m", [5]),
        ("from functools import partial\ndef g(n, item): return [n, item]\nf = partial(g, 9)", [9, 3]),
        ("f = abs", 3),
        ("f = str", "3"),
        ("def f(item): return [item]\nf.made_by = 'a decorator'", [3]),
        (WRAPPED + "def f(item): return item", [3, 3]),
        (WRAPPED + "def f(item, state): return state['n']", [5, 5]),
        ("import functools\n@functools.cache\ndef f(item): return [item]", [3]),
        ("class F:\n    __signature__ = 1\n    def __call__(self, item): return [item]\nf = F()", [3]),
    ],
    ids=range(25),
)
def test_a_maps_function_takes_the_item_and_the_state_where_it_asks_for_it(code: str, expected: object) -> None:
    assert result(code, state={"n": 5}) == expected


def test_live_functions_run_for_items_too() -> None:
    job = item_job("pass")
    done = run_job(job, b'{"items": [1, 2]}', callables={"f": lambda item, state: item + len(state["items"])})
    assert isinstance(done, bytes)
    assert json.loads(done)["value"] == 4


def test_an_item_may_be_changed_without_effect_on_anything() -> None:
    code = "def f(item, state):\n    item.append(4)\n    return [item, list(state['items'][1])]"
    assert result(code, item=[3]) == [[3, 4], [3]]
    assert result("item.append(4)", item=[3]) is None


@pytest.mark.parametrize("change", ["state['x'] = 1", "state.set('x', 1)", "state.update(x=1)", "del state['items']"])
def test_a_maps_function_that_sets_the_state_is_told(change: str) -> None:
    told = account(item_job(f"def f(item, state):\n    {change}"), {"items": [0, 1]})
    assert told.message.startswith("a map's function returns its result and cannot change the state (it ")
    assert (told.type, told.reason, told.condition) == ("TypeError", Reason.ERROR, None)


@pytest.mark.parametrize(
    ("value", "says", "kind"),
    [
        ("{1, 2}", "result is of the type set, which JSON does not have; use a list", "TypeError"),
        ("{'a': [0, float('nan')]}", "result['a'][1] is nan, which JSON does not have; use None", "ValueError"),
        ("[2**63]", "result[0] is an integer beyond ±2^63; store it as text", "ValueError"),
        ("'\\ud800'", "result is not valid text", "ValueError"),
        ("{1: 2}", "result has the key 1 of the type int; JSON keys are strings", "TypeError"),
        ("[[[0]]]", "result[0][0] is nested deeper than the limit, or contains itself", "ValueError"),
        ("'x' * 2000", "result is larger than the limit of 1000 bytes", "ValueError"),
        ("'ä' * 480", "result is larger than the limit of 1000 bytes", "ValueError"),
    ],
)
def test_a_result_that_cannot_be_stored_names_the_item_and_where(value: str, says: str, kind: str) -> None:
    job = item_job(f"return {value}", max_depth=2, max_result_bytes=1000)
    told = account(job, {"items": [0, 1]})
    assert told.message.startswith(f"the result of item 1: {says}")
    assert (told.type, told.key, told.reason) == (kind, "result", Reason.RESULT_INVALID)


def test_the_state_is_no_result() -> None:
    told = account(item_job("def f(item, state): return state"), {"items": [0, 1]})
    assert told.message.endswith("is of the type ItemState, which JSON does not have; use its to_dict()")


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        ("def f(item): raise ValueError('no')", "ValueError", "no"),
        ("def f(item): raise SystemExit(3)", "SystemExit", "exit"),
        ("def f(): return 1", "TypeError", "takes 0 positional arguments"),
        ("def f(item): yield item", "TypeError", "the function 'f' returned a generator"),
        ("x = 1\n# f(", "LookupError", "defines no 'f'"),
        ("1/0\n# f(", "ZeroDivisionError", "division"),
    ],
)
def test_what_goes_wrong_with_an_item_is_an_error_like_any_other(code: str, kind: str, says: str) -> None:
    told = account(Job(function=Source("f", code), item_key="items"), {"items": [0]})
    assert (told.type, told.key, told.reason) == (kind, None, Reason.ERROR)
    assert says in told.message


def test_no_condition_is_asked_for_an_item() -> None:
    raising = Condition(expression="1/0")
    assert result("return item", before=raising, again=raising, after=(raising,)) == 3


# What was read.


def reads(job: Job, state: dict[str, Any] | None = None) -> tuple[list[str], bool]:
    found = outcome(job, state)
    return found["reads"], found["reads_cut"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("pass", []),
        ("state.set('b', 1); state.delete('a'); state.update(c=1)", []),
        ("return {'a': state.get('b'), 'x': state.get('missing')}", ["b", "missing"]),
        ("state['b']; 'a' in state; 'missing' in state", ["a", "b", "missing"]),
        ("state.to_dict()", ["a", "b", "ü"]),
        ("[key for key in state]; state.get('z')", ["a", "b", "z", "ü"]),
        ("state['new'] = 1; len(state)", ["a", "b", "ü"]),
        ("from enum import StrEnum\nclass Key(StrEnum):\n    A = 'a'\nreturn {'x': state[Key.A]}", ["a"]),
        ("state.get(1); state.get(None); state.get((1, 2)); state.get('\\ud800')", []),
        ("try: state['none']\nexcept KeyError: pass", ["none"]),
        ("return {'a': WorkflowState({'q': 1}).get('q')}", []),
        ("state._reads = None; return {'a': 1}", []),
        ("state._reads.update([1, b'x', object(), None])", ["a", "b", "ü"]),
        ("def f(state):\n    state.get('a')\n    return state", ["a"]),
    ],
)
def test_the_outcome_says_what_the_function_read(body: str, expected: list[str]) -> None:
    assert reads(Job(function=source(body)), {"b": 1, "a": 2, "ü": 3})[0] == expected


def test_it_says_what_conditions_read_too() -> None:
    job = Job(
        function=source("state['new'] = state['n']"),
        before=Condition(expression="state.first"),
        again=Condition(function=source("return 'again' in state", "again")),
        after=expressions("state.new == 1", "state.get('gone') is None", "state.node == ''"),
    )
    assert reads(job, {"n": 1, "first": True, "last": 0}) == (["again", "first", "gone", "n", "new"], False)
    assert reads(Job(after=expressions("len(state) == 2")), {"a": 1, "b": 2}) == (["a", "b"], False)
    assert reads(Job(before=NO, function=source("state['n']")), {"n": 1}) == ([], False)


def test_a_map_reads_its_items_and_what_its_function_asks_for() -> None:
    state = {"items": [1, 2], "n": 1, "m": 2}
    assert reads(item_job("return item"), state) == (["items"], False)
    assert reads(item_job("def f(item, state): return 1"), state) == (["items"], False)
    assert reads(item_job("def f(item, state): return state.get('n')"), state) == (["items", "n"], False)
    assert reads(item_job("def f(item, state): return list(state)"), state) == (["items", "m", "n"], False)


def test_of_very_many_keys_the_first_are_told() -> None:
    state = {f"k{number:04}": 0 for number in range(1001)}
    told, is_cut = reads(Job(function=source("len(state)")), state)
    assert (told, is_cut) == (list(state)[:1000], True)
    del state["k1000"]
    assert reads(Job(function=source("len(state)")), state) == (list(state), False)
    # Not even to have asked for ever more is an error.
    told, is_cut = reads(Job(function=source("for i in range(20_000): state.get(f'm{i}')")), {})
    assert (len(told), is_cut) == (1000, True)


def test_of_very_long_keys_the_first_are_told() -> None:
    state = {f"{number}" + "ü" * 5000: 0 for number in range(9)}
    told, is_cut = reads(Job(function=source("len(state)")), state)
    assert (told, is_cut) == (list(state)[:6], True)


def test_what_was_read_never_makes_an_outcome_too_large() -> None:
    state = {f"key number {number}": 0 for number in range(100)}
    job = Job(function=source("len(state); return {'x': 'y' * 800}"), max_result_bytes=1000)
    done = run_job(job, json.dumps(state).encode())
    assert isinstance(done, bytes)
    assert len(done) <= 1000
    found = json.loads(done)
    assert (found["ops"][0]["value"], found["reads_cut"]) == ("y" * 800, True)
    assert 1 <= len(found["reads"]) < 10
    item = item_job("def f(item, state): return [len(state), 'y' * 800]", max_result_bytes=1000)
    some, is_cut = reads(item, {**state, "items": [0, 1]})
    assert some[0] == "items"
    assert (1 < len(some) < 10, is_cut) == (True, True)


def test_threads_that_go_on_reading_do_no_harm() -> None:
    body = """
    import threading
    def f(state):
        def read():
            for number in range(200_000):
                state.get(f"k{number % 900}")
        for _ in range(4): threading.Thread(target=read, daemon=True).start()
        return {"x": 1}
    """
    for _ in range(5):
        found = outcome(Job(function=source(body)))
        assert found["reads"] is not None
