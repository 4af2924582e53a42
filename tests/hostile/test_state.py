"""Red team, state: values, keys and conditions made to break whoever stores, merges or shows them.

The numbers are those of the red team's list; a letter is a variation of ours.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from attacks import SMALL, Attack, Ending, attack, attacks, idle_within, peak_mb, resident_mb, run_of
from served import Json, Served

pytestmark = pytest.mark.docker

#: Code, limits, and what an error must say; without that the code's ``expected`` is what the state must hold.
REFUSED: dict[str, tuple[Attack, str]] = {
    "24 a value of a gigabyte": (
        Attack.of("state.set('huge', 'x' * 300_000_000)", memory_mb=1024, timeout_s=20),
        "huge",
    ),
    "24a more than there is memory": (Attack.of("state.set('huge', 'x' * 10**9)"), ""),
    "26 depth of 100,000": (
        Attack.of("deep = []\nfor _ in range(100_000): deep = [deep]\nstate.set('deep', deep)", memory_mb=128),
        "deep",
    ),
    "27 Infinity": (Attack.of("state.set('endless', [1, {'a': float('-inf')}])"), "endless"),
    "28 a key of half a surrogate pair": (Attack.of("state.set('\\ud800', 1)"), "surrogate"),
    "31 a number as a key": (Attack.of("state.set('table', {1: 'one'})"), "table"),
    "31a a number as a key of the state": (Attack.of("state.set(1, 'one')"), "string"),
    "31b an empty key": (Attack.of("state.set('', 1)"), "empty"),
    "31c a key past the state's own checks": (Attack.of("state._data[7] = 1"), "keys are strings"),
    "32 a cycle": (Attack.of("loop = []\nloop.append(loop)\nstate.set('loop', loop)"), "loop"),
    "32a a lambda": (Attack.of("state.set('call', lambda: 1)"), "call"),
    "32b bytes": (Attack.of("state.set('raw', b'x')"), "raw"),
    "32c an integer of a thousand digits": (Attack.of("state.set('long', 10**1000)"), "long"),
    "32d one more than 64 bits hold": (Attack.of("state.set('over', 2**63)"), "over"),
    "35 an object that would unpickle to a call": (
        Attack.of(
            "class Bomb:\n    def __reduce__(self):\n        import os\n        return os.system, ('touch /tmp/x',)\n"
            "state.set('bomb', Bomb())"
        ),
        "bomb",
    ),
    "37a more keys than there may be, of those that are short": (
        Attack.of("for n in range(10_001): state.set(str(n), n)"),
        "10000 are allowed",
    ),
    "37b more bytes than there may be": (
        Attack.of("for n in range(9_000): state.set(str(n) + 'k' * 600, n)", memory_mb=128),
        "limit of",
    ),
}

KEPT: dict[str, tuple[str, Any]] = {
    "27 the word NaN": ("state.set('x', 'NaN')", "NaN"),
    "29 NUL in values": ("state.set('x', 'a\\0b')", "a\0b"),
    "29a control characters, marks of direction, the last character": (
        "state.set('x', '\\x01\\x1b[2J\\u202e\\u2028\\ufeff\\U0010ffff')",
        "\x01\x1b[2J\u202e\u2028\ufeff\U0010ffff",
    ),
    "34 names that mean something elsewhere": (
        "state.set('x', {'__proto__': 1, '__class__': 'os', '$ref': '#/x', 'constructor': {}, 'py/object': 'os'})",
        {"__proto__": 1, "__class__": "os", "$ref": "#/x", "constructor": {}, "py/object": "os"},
    ),
    "35a a pickle": ("import pickle\nstate.set('x', pickle.dumps(print, 0).decode())", "c__builtin__\nprint\np0\n."),
    "numbers at the edges": (
        "state.set('x', [1e308, -1e308, 5e-324, 10**18, 2**63 - 1, -2**63, 0.1 + 0.2])",
        [1e308, -1e308, 5e-324, 10**18, 2**63 - 1, -(2**63), 0.1 + 0.2],
    ),
    "the deepest there may be": (
        "deep = 0\nfor _ in range(64): deep = [deep]\nstate.set('x', deep)",
        json.loads("[" * 64 + "0" + "]" * 64),
    ),
    "what looks like SQL, a template, a format": (
        "state.set('x', \"'); DROP TABLE runs; -- {{7*7}} %s %n ${jndi} {0.__class__}\")",
        "'); DROP TABLE runs; -- {{7*7}} %s %n ${jndi} {0.__class__}",
    ),
}


@pytest.fixture(scope="module")
def endings(served: Served) -> dict[str, Ending]:
    cases = {name: case for name, (case, _) in REFUSED.items()}
    cases |= {name: Attack.of(code) for name, (code, _) in KEPT.items()}
    found = attacks(served, cases)
    assert attack(served, "state.set('well', True)").data == {"well": True}
    return found


@pytest.mark.parametrize("name", REFUSED)
def test_24_to_37_what_cannot_be_stored_is_refused_and_named(endings: dict[str, Ending], name: str) -> None:
    ending = endings[name]
    assert ending.status in {"result_invalid", "error", "oom"}, ending.run["error"]
    assert REFUSED[name][1] in ending.attempt["error"]["message"]
    assert len(ending.attempt["error"]["message"]) < 10_000
    assert ending.data == {}


@pytest.mark.parametrize("name", KEPT)
def test_27_to_35_what_can_be_stored_comes_back_as_it_was(endings: dict[str, Ending], name: str) -> None:
    ending = endings[name]
    assert ending.status == "succeeded", ending.run["error"]
    assert ending.data == {"x": KEPT[name][1]}


def test_25_as_many_long_keys_as_there_may_be(served: Served) -> None:
    before = resident_mb(served)
    many = "for n in range(9_999): state.set(f'{n:0380}', n)"
    ending = attack(served, many, memory_mb=256, timeout_s=20)
    assert ending.status == "succeeded", ending.run["error"]
    assert len(ending.data) == 9_999
    long = "state.set('k' * 1_000_000, 1)\nstate.set('\\x00\\x1b\\u202e', 2)"
    ending = attack(served, long, memory_mb=256)
    assert ending.data == {"k" * 1_000_000: 1, "\x00\x1b\u202e": 2}
    assert resident_mb(served) < before + 200


def test_25a_every_key_of_a_large_state_is_deleted(served: Served) -> None:
    state = {f"key-{n}": n for n in range(10_000)}
    ending = run_of(served, "def wipe(state):\n    for key in state.keys(): state.delete(key)\n", "wipe", state)
    assert (ending.status, ending.data) == ("succeeded", {})


def test_24b_what_a_few_bytes_grow_to_stays_bounded(served: Served) -> None:
    before = peak_mb(served)
    # In memory an empty object takes twenty times its text.
    ending = attack(served, "state.set('x', [{}] * 1_300_000)", memory_mb=1024, timeout_s=20)
    assert ending.status in {"succeeded", "result_invalid"}
    assert peak_mb(served) < before + 600


@pytest.mark.parametrize(
    ("returned", "status"),
    [
        ("None", "succeeded"),
        ("(yield)", "error"),
        ("iter([])", "error"),
        # A coroutine is awaited, whoever made it; what is merely awaitable is not.
        ("__import__('asyncio').sleep(0)", "succeeded"),
        ("type('Late', (), {'__await__': lambda self: iter([])})()", "error"),
        ("WorkflowState({'x': 1})", "error"),
        ("{'run_id': 'r', 'status': 'failed', 'node': 'end', 'final_state': {}, '_data': 1}", "succeeded"),
    ],
)
def test_36_and_37_whatever_it_returns(served: Served, returned: str, status: str) -> None:
    ending = run_of(served, f"def odd(state):\n    return {returned}\n", "odd")
    assert ending.status == status, ending.run["error"]
    assert ending.run["status"] == ("completed" if status == "succeeded" else "failed")
    if "run_id" in returned:
        assert ending.data == {"run_id": "r", "status": "failed", "node": "end", "final_state": {}, "_data": 1}


def with_conditions(*conditions: object) -> Json:
    return {
        "name": "asked",
        "nodes": [
            {"name": "start", "type": "start"},
            {"name": "quiet", "function": "quiet", "limits": {**SMALL, "timeout_s": 2}},
            {"name": "end", "type": "end"},
        ],
        "edges": [
            {"source": "start", "target": "quiet"},
            *({"source": "quiet", "target": "end", "condition": each} for each in conditions),
        ],
    }


QUIET = "def quiet(state):\n    state.set('x', 1)\n"


@pytest.mark.parametrize(
    ("condition", "statuses"),
    [
        ("[0 for _ in iter(int, 1)]", {"timeout", "oom"}),
        ("'x' * 10**11", {"error", "oom"}),
        ("[b'x' * 10**6 for _ in range(10**6)]", {"oom", "error"}),
        ("state.set('y', 2)", {"error"}),
        ("state._data.update(y=2) or True", {"succeeded"}),
        ("__import__('os')._exit(0)", {"no_result"}),
        ("__import__('os').kill(__import__('os').getpid(), 9)", {"killed"}),
        ("exit(0)", {"error"}),
        ("(_ for _ in ()).throw(KeyboardInterrupt)", {"error"}),
        ("print('x' * 10**6)", {"output_limit"}),
        ("(yield)", set()),
        ("x" * 10_001, set()),
        ("(" * 1_000 + ")" * 1_000, set()),
        ("a := 1", set()),
        ("1; import os", set()),
        ("\0", set()),
    ],
)
def test_conditions_are_as_confined_as_functions(served: Served, condition: str, statuses: set[str]) -> None:
    served.register(QUIET, "quiet")
    answer = served.client.post("/graph/create", json=with_conditions(condition))
    if not statuses:
        assert answer.status_code == 422, answer.text
        return
    run = served.post("/graph/run", {"graph_id": answer.json()["graph_id"], "initial_state": {}})
    nodes = served.get(f"/graph/status/{run['run_id']}")["node_runs"]
    [attempt] = next(node["attempts"] for node in nodes if node["node"] == "quiet")
    assert attempt["status"] in statuses, attempt
    assert run["final_state"]["data"] == ({"x": 1} if attempt["status"] == "succeeded" else {})


@pytest.mark.parametrize("prefix", ["async def", "def"])
def test_condition_functions_that_are_no_plain_functions(served: Served, prefix: str) -> None:
    body = "return state.get('x') == 1" if prefix == "async def" else "yield True"
    served.register(QUIET, "quiet")
    served.register(f"{prefix} odd(state):\n    {body}\n", "odd")
    run = served.run(with_conditions({"function": "odd"}))
    assert run["status"] == ("completed" if prefix == "async def" else "failed")


def test_a_thousand_conditions_on_one_node(served: Served) -> None:
    served.register(QUIET, "quiet")
    graph = with_conditions()
    targets = [f"n{number}" for number in range(400)]
    graph["nodes"] += [{"name": name, "type": "standard", "function": "quiet"} for name in targets]
    graph["edges"] += [
        {"source": "quiet", "target": name, "condition": f"state.x == {number + 2}"}
        for number, name in enumerate(targets)
    ]
    graph["edges"] += [{"source": name, "target": "end"} for name in targets]
    graph["edges"].append({"source": "quiet", "target": "end", "default": True})
    run = served.run(graph)
    assert run["status"] == "completed", run
    assert run["final_state"]["data"] == {"x": 1}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"graph_id": "g", "initial_state": {"x": NaN}}', 400, "invalid_json"),
        (b'{"graph_id": "g", "initial_state": {"x": -Infinity}}', 400, "invalid_json"),
        (b'{"graph_id": "g", "initial_state": {"x": 1e999}}', 422, "number_not_finite"),
        (b'{"graph_id": "g", "initial_state": {"x": 1%s}}' % (b"0" * 100_000), 422, "integer_out_of_range"),
        (b'{"graph_id": "g", "initial_state": {"x": %s}}' % (b"[" * 100_000), 400, "nesting_too_deep"),
        (b'{"graph_id": "g", "initial_state": {"x": %s1%s}}' % (b"[" * 100, b"]" * 100), 422, "state_too_deep"),
        (b'{"graph_id": "g", "initial_state": {"x": 1, "x": 2}}', 400, "duplicate_key"),
        (b'{"graph_id": "g", "initial_state": {"x": "\\ud800"}}', 400, "invalid_text"),
        (b'{"graph_id": "g", "initial_state": {"\xff": 1}}', 400, "invalid_utf8"),
        (
            b'{"graph_id": "g", "initial_state": {%s}}' % b",".join(b'"%d":0' % n for n in range(10_001)),
            422,
            "too_many_keys",
        ),
        (b'{"graph_id": "g", "initial_state": []}', 422, None),
        (b'{"graph_id": "g", "initial_state": {}, "status": "completed"}', 422, None),
        (b'{"graph_id": "%s"}' % (b"g" * 1_000_000), 422, None),
        (b" " * 3_000_000, 413, "body_too_large"),
        (b"", 400, "empty_body"),
    ],
)
def test_24_to_31_an_initial_state_is_no_way_around(served: Served, body: bytes, status: int, code: str | None) -> None:
    answer = served.client.post("/graph/run", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    assert len(answer.content) < 20_000
    found = {answer.json()["code"], *(each["code"] for each in answer.json().get("errors", []))}
    assert code is None or code in found


def test_numbers_in_addresses_are_bounded(served: Served) -> None:
    run = attack(served, "state.set('x', 1)").run["run_id"]
    for number in ("-1", str(10**30), "1e3", "NaN", "%00", "9" * 5_000):
        assert served.client.get(f"/graph/state/{run}?at={number}").status_code in {404, 422}
        assert served.client.get(f"/graph/runs?limit={number}").status_code == 422
    for cursor in ("x", "\x00", "9" * 1_000, "eyJ9"):
        assert served.client.get("/graph/runs", params={"cursor": cursor}).status_code in {200, 422}
    assert served.client.get(f"/graph/state/{run}?at={2**63 - 1}").status_code in {404, 422}


def test_a_state_that_many_nodes_rewrite_stays_bounded(served: Served) -> None:
    before = peak_mb(served)
    served.register("def more(state):\n    state.set(str(state.iteration), 'x' * 200_000)\n", "more")
    loop: dict[str, Any] = {"type": "loop", "max_iterations": 30, "limits": {**SMALL, "memory_mb": 128}}
    ending = run_of(served, "def more(state):\n    state.set(str(state.iteration), 'x' * 200_000)\n", "more", **loop)
    # It grows until a state may not be any larger; what it was before that stays.
    assert (ending.run["status"], ending.run["error"]["code"]) == ("failed", "result_invalid")
    assert len(ending.data) == 20
    assert peak_mb(served) < before + 200
    assert idle_within(served, 4)
