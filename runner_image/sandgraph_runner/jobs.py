"""What a sandbox is asked to do: the meta sections of EXECUTE and CHECK. Import them from `protocol`."""

from __future__ import annotations

from sandgraph_runner.records import Record, record, replace

#: There may be one printed line for this many bytes of the output limit: an empty line costs its keeper as much as a
#: short one.
BYTES_A_LINE = 16


@record
class Source(Record):
    """Submitted code that defines a callable of that name."""

    name: str
    code: str


@record
class Condition(Record):
    """A Python expression over ``state``, or a function called with the state; exactly one is set."""

    expression: str | None = None
    function: Source | None = None


@record
class Job(Record):
    """Meta of EXECUTE: what one attempt does.

    In order: ``before`` is asked (a loop's first check); if false, the function is not called. Else ``function`` runs,
    then ``again`` is asked (does the loop go on?). Where the loop ends, or there is none, every condition of ``after``
    is asked (the outgoing edges'), in order, over the state as it then is.

    With an ``item_key``, ``function`` runs for one item of a map instead, and what it returns is the outcome: the state
    is not changed, and no condition is asked.

    Attributes:
        function: The node's function; None where only conditions are asked.
        tools: Registered tools that the function may invoke.
        before: A loop's condition, in its first iteration only.
        again: A loop's condition, in every iteration.
        is_last: This is the last iteration allowed: when ``again`` holds all the same, ``after`` is asked too.
        after: Conditions of the outgoing edges.
        item_key: The state's key that holds a map's items, a list; None where this is no item's job.
        item_index: Which of them it is, from 0; it is there.
        run_id: The run, as ``state.run_id`` shows it.
        node: The node's name.
        iteration: From 1.
        attempt: From 1.
        idempotency_key: The same for every attempt of a node run.
        scope: The path of the subgraph's node run that this is a part of; empty in none.
        max_output_bytes: Printed bytes after which the attempt ends as ``output_limit``, as after a sixteenth as
            many lines.
        max_line_bytes: Bytes after which a printed line is cut.
        max_result_bytes: Largest outcome of the child.
        max_depth: Deepest nesting of a state value.
        max_keys: Most top-level keys of the state.
        max_values: Most values of the state at any depth: elements of arrays, and members of objects.
        keep: Whether another job may follow: the sandbox is then wiped and says HELLO again, instead of ending.
    """

    function: Source | None = None
    tools: tuple[Source, ...] = ()
    before: Condition | None = None
    again: Condition | None = None
    is_last: bool = False
    after: tuple[Condition, ...] = ()
    item_key: str | None = None
    item_index: int = 0
    run_id: str = ""
    node: str = ""
    iteration: int = 1
    attempt: int = 1
    idempotency_key: str = ""
    scope: str = ""
    max_output_bytes: int = 1024 * 1024
    max_line_bytes: int = 16 * 1024
    max_result_bytes: int = 5 * 1024 * 1024
    max_depth: int = 64
    max_keys: int = 10_000
    max_values: int = 250_000
    keep: bool = False

    @classmethod
    def from_meta(cls, meta: dict[str, object]) -> Job:
        """Read the JSON form that ``to_meta`` wrote; the sender is trusted."""
        known = dict(meta)
        known["function"] = _source(meta["function"])
        known["tools"] = tuple(_source(tool) for tool in _list(meta["tools"]))
        known["before"] = _condition(meta["before"])
        known["again"] = _condition(meta["again"])
        known["after"] = tuple(_condition(each) for each in _list(meta["after"]))
        return cls(**known)  # type: ignore[arg-type]

    def as_asked(self) -> Job:
        """Return it without the conditions that are not asked in an item's job."""
        return self if self.item_key is None else replace(self, before=None, again=None, after=())


@record
class Check(Record):
    """Meta of CHECK: code to compile and execute without calling it, and expressions to compile.

    The outcome's body is ``{"problems": [{"index", "code", "message", "line", "column"}, …]}``, where ``index`` counts
    sources first, then expressions; codes are ``syntax_error``, ``import_failed`` (executing the module level raised),
    ``name_not_defined`` and ``not_callable``.
    """

    sources: tuple[Source, ...] = ()
    expressions: tuple[str, ...] = ()
    max_output_bytes: int = 64 * 1024
    max_line_bytes: int = 16 * 1024
    max_result_bytes: int = 1024 * 1024

    @classmethod
    def from_meta(cls, meta: dict[str, object]) -> Check:
        """Read the JSON form that ``to_meta`` wrote; the sender is trusted."""
        known = dict(meta)
        known["sources"] = tuple(_source(each) for each in _list(meta["sources"]))
        known["expressions"] = tuple(_list(meta["expressions"]))
        return cls(**known)  # type: ignore[arg-type]


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


def _source(value: object) -> Source | None:
    return Source(str(value["name"]), str(value["code"])) if isinstance(value, dict) else None


def _condition(value: object) -> Condition | None:
    if not isinstance(value, dict):
        return None
    return Condition(value["expression"], _source(value["function"]))
