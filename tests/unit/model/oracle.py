"""What a graph means, told a second time: by recursion over cycles, with sets of commits; no events, tokens or views.

A commit is named by the node run that made it. A node run sees a set of commits, and in it, for each key, the value of
the one commit that saw all others of the set which changed that key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from sandgraph.model.graph import Graph, Node, NodeType, OnError, OnMax, Outcome
from sandgraph.model.run import AttemptStatus, NodeRunKey
from sandgraph.model.state import Json

Seen = frozenset[NodeRunKey]


@dataclass(frozen=True)
class Act:
    """What an attempt comes back with."""

    changes: dict[str, Json] = field(default_factory=dict)
    deletes: frozenset[str] = frozenset()
    entered: bool = True
    again: bool | None = None
    after: tuple[bool, ...] = ()
    fails: AttemptStatus | None = None
    became: Outcome = Outcome.FAILED
    adds: dict[str, Json] = field(default_factory=dict)
    code: str | None = None


@dataclass(frozen=True)
class Added:
    """What a commit added to a key that has a reducer."""

    what: list[Json] | int


Changes = dict[str, Json | Added]


@dataclass
class Decided:
    """What time decided, from the record.

    Attributes:
        winners: By which edges joins began that do not wait for all.
        idle: What was given up for that, and whether it had begun.
        took: Payloads that waits took.
        overran: Waits, maps and subgraphs whose time was over.
        inside: Steps inside of subgraphs that did not come to their end.
        exceeded: Subgraphs that would have taken too many: what of them was the last depends on all that is inside.
    """

    winners: dict[NodeRunKey, set[int]] = field(default_factory=dict)
    idle: dict[NodeRunKey, bool] = field(default_factory=dict)
    took: dict[NodeRunKey, Json] = field(default_factory=dict)
    overran: set[NodeRunKey] = field(default_factory=set)
    inside: dict[NodeRunKey, int] = field(default_factory=dict)
    exceeded: set[NodeRunKey] = field(default_factory=set)


class Failed(Exception):
    """The run fails, with this code; ``bound`` is what of whose steps there were too many."""

    def __init__(self, code: str, bound: Oracle | None = None) -> None:
        super().__init__(code)
        self.bound = bound


@dataclass
class Cycle:
    """A natural loop, found by the definition."""

    header: str
    nodes: set[str]


def reachable(graph: Graph, without: str | None = None) -> set[str]:
    """The nodes that paths from the entry lead to, without passing one of them."""
    found = {graph.entry} - {without}
    while more := {e.target for e in graph.edges if e.source in found} - found - {without}:
        found |= more
    return found


def dominators(graph: Graph) -> dict[str, set[str]]:
    """Each node's dominators: without them it could not be reached."""
    everything = reachable(graph)
    cut_off = {name: everything - reachable(graph, name) for name in everything}
    return {name: {upper for upper in everything if name in cut_off[upper]} for name in everything}


def cycles(graph: Graph) -> dict[str, Cycle]:
    """By header: it, and what reaches one of its back edges without passing it."""
    above = dominators(graph)
    found: dict[str, Cycle] = {}
    for edge in graph.edges:
        if edge.target in above[edge.source]:
            nodes = found.setdefault(edge.target, Cycle(edge.target, {edge.target})).nodes
            nodes.add(edge.source)
            while more := {e.source for e in graph.edges if e.target in nodes - {edge.target}} - nodes:
                nodes |= more
    return found


class Oracle:
    """Interprets a graph. After `run`, the attributes say what came of it."""

    def __init__(
        self,
        graph: Graph,
        acts: Callable[[NodeRunKey], Act],
        initial: dict[str, Json],
        decided: Decided | None = None,
        subgraphs: Mapping[str, Graph] | None = None,
        around: tuple[Oracle, str, Seen] | None = None,
    ) -> None:
        self.decided = decided or Decided()
        self.winners, self.idle = self.decided.winners, self.decided.idle
        self.subgraphs = subgraphs or {}
        self.outer: Oracle | None = around[0] if around else None
        self.scope, self.before = around[1:] if around else ("", frozenset[NodeRunKey]())
        self.counted_by = self.outer
        self.graph = graph
        self.reduced = {key for key, _ in graph.reducers}
        self.nodes = {node.name: node for node in graph.nodes}
        self.cycles = cycles(graph)
        self.acts = acts
        self.initial = initial
        self.iterations: Counter[str] = Counter()
        self.steps = 0
        # What the source of each edge saw when it was done, or where it was skipped, what those did that skipped it.
        self.known: dict[int, Seen] = {}
        # Where what failed is cut off and the rest goes on: the edges by which nothing more comes, and the failures.
        self.cut: set[int] = set()
        self.codes: set[str] = set()
        self.ended: dict[str, Seen] = {}
        self.saw: dict[NodeRunKey, Seen] = {}
        self.commits: dict[NodeRunKey, tuple[Seen, Changes]] = {}
        # Of subgraphs too, at any depth: what became of each node run, what it saw, and for each commit those in its
        # past, the keys it changed, and the state after it.
        self.ran: set[NodeRunKey] = self.outer.ran if self.outer else set()
        self.failed: set[NodeRunKey] = self.outer.failed if self.outer else set()
        self.skipped: set[NodeRunKey] = self.outer.skipped if self.outer else set()
        self.states: dict[NodeRunKey, dict[str, Json]] = self.outer.states if self.outer else {}
        self.made: dict[NodeRunKey, tuple[Seen, set[str], dict[str, Json]]] = self.outer.made if self.outer else {}

    def run(self) -> str | dict[str, Json]:
        """Return the final state, or the code of the failure."""
        try:
            self._once(set(self.nodes), self.graph.entry, frozenset(), self.cycles)
            ends = {node.name for node in self.graph.nodes if node.type is NodeType.END}
            going_on = {edge.source for edge in self.graph.edges if Outcome.SUCCEEDED in edge.on}
            ends = ends or set(self.nodes) - going_on
            if self.codes:
                return min(self.codes)
            seen = [view for name, view in self.ended.items() if name in ends]
            return self.state(self._join(seen)) if seen else "end_not_reached"
        except Failed as failed:
            if failed.bound not in {None, self}:
                raise
            return str(failed)

    def state(self, seen: Seen) -> dict[str, Json]:
        """Return the state that a set of commits makes; lists that are added to, in no order that means anything."""
        state = dict(self.initial)
        for name in {name for key in seen for name in self.commits[key][1]}:
            writers = [key for key in seen if name in self.commits[key][1]]
            changes = [self.commits[key][1][name] for key in writers]
            added = [each.what for each in changes if isinstance(each, Added)]
            if added:
                assert len(added) == len(changes), "reduced keys are never set"
                state[name] = _total(name, [state.get(name), *added])
                continue
            last = [key for key in writers if not any(key in self.commits[other][0] for other in writers)]
            if len(last) > 1:
                raise Failed("state_conflict")
            value = self.commits[last[0]][1][name]
            assert not isinstance(value, Added)
            state.pop(name, None)
            if value is not None:
                state[name] = value
        return state

    def _join(self, seen: Iterable[Seen]) -> Seen:
        joined = frozenset[NodeRunKey]().union(*seen)
        self.state(joined)
        return joined

    def _once(
        self, nodes: set[str], start: str, seen: Seen | None, inner: dict[str, Cycle], dead: Seen = frozenset()
    ) -> dict[int, Seen]:
        """Run what is in ``nodes`` once; return the edges that were taken, those inside too.

        Where nothing came to ``start``, ``dead`` is what those saw that sent nothing.
        """
        direct = [c for c in inner.values() if not any(c.nodes < other.nodes for other in inner.values())]
        units = {name: {name} for name in nodes - {name for cycle in direct for name in cycle.nodes}}
        units |= {cycle.header: cycle.nodes for cycle in direct}
        taken: dict[int, Seen] = {}
        done: set[str] = set()
        while units:
            name = next(name for name in units if name == start or self._sources(name, units[name]) <= done)
            members = units.pop(name)
            taken |= self._unit(name, members, None if name != start else (seen, dead), taken, inner)
            done |= members
        return taken

    def _unit(
        self,
        name: str,
        members: set[str],
        started: tuple[Seen | None, Seen] | None,
        taken: dict[int, Seen],
        inner: dict[str, Cycle],
    ) -> dict[int, Seen]:
        """Run a node or a whole cycle, over what came along the edges that enter it if not over what it is given."""
        entering = [i for i, edge in enumerate(self.graph.edges) if edge.target == name and edge.source not in members]
        enough = self.nodes[name].join
        came_by = [i for i in entering if i in taken]
        has_enough = enough is not None and len(came_by) >= enough
        following = NodeRunKey(name, self.iterations[name] + 1, self.scope)
        if started is None and following in self.idle:
            started = (None, frozenset())
        elif started is None and not has_enough and self.cut.intersection(entering):
            return self._cut_off(members)
        try:
            if started is None:
                if has_enough:
                    won = self.winners.get(following, set(came_by[:enough]))
                    came_by = [i for i in came_by if i in won]
                    assert len(came_by) == enough
                came = [taken[i] for i in came_by]
                dead = frozenset[NodeRunKey]().union(*(self.known.get(i, frozenset()) for i in entering))
                started = (self._join(came) if came else None, dead)
        except Failed as failed:
            self._note(failed)
            return self._cut_off(members)
        if name in inner:
            return self._cycle(name, *started)
        try:
            return self._node(self.nodes[name], *started)
        except Failed as failed:
            self._note(failed)
            self.cut |= {i for i, edge in enumerate(self.graph.edges) if edge.source == name}
            return {}

    def _note(self, failed: Failed) -> None:
        if self.graph.on_error is OnError.FAIL_FAST or failed.bound:
            raise failed
        self.codes.add(str(failed))

    def _cut_off(self, members: set[str]) -> dict[int, Seen]:
        """Let nothing run of these, nor what they lead to."""
        self.skipped |= {self._key(self.nodes[name]) for name in members}
        self.cut |= {i for i, edge in enumerate(self.graph.edges) if edge.source in members}
        return {}

    def _sources(self, name: str, members: set[str]) -> set[str]:
        return {edge.source for edge in self.graph.edges if edge.target == name} - members

    def _cycle(self, header: str, seen: Seen | None, dead: Seen) -> dict[int, Seen]:
        """Run a cycle to its end; return the edges that left it, each with what it saw when it was last taken."""
        nodes = self.cycles[header].nodes
        inner = {name: cycle for name, cycle in self.cycles.items() if cycle.nodes < nodes}
        left: dict[int, Seen] = {}
        while True:
            taken = self._once(nodes, header, seen, inner, dead)
            left |= {i: view for i, view in taken.items() if self.graph.edges[i].target not in nodes}
            within = {i for i, edge in enumerate(self.graph.edges) if edge.source in nodes}
            if within & self.cut:
                self.cut |= within
                return {}
            back = [view for i, view in taken.items() if self.graph.edges[i].target == header]
            if not back:
                return left
            try:
                seen = self._join(back)
            except Failed as failed:
                self._note(failed)
                return self._cut_off(nodes)

    def _node(self, node: Node, seen: Seen | None, dead: Seen) -> dict[int, Seen]:
        outgoing = [i for i, edge in enumerate(self.graph.edges) if edge.source == node.name]
        if seen is None:
            key = self._key(node)
            if key in self.idle:
                return self._give_up(key, outgoing)
            self.skipped.add(key)
            self.known |= dict.fromkeys(outgoing, dead)
            revived = [i for i in outgoing if Outcome.SKIPPED in self.graph.edges[i].on]
            return dict.fromkeys(revived, self._join([dead])) if revived else {}
        lap = 1
        taken: list[int] | None = None
        while taken is None:
            key = self._key(node)
            if key in self.idle:
                return self._give_up(key, outgoing)
            act, seen = self._run(node, key, seen)
            if act.fails:
                taken = self._handled(outgoing, act.became, act.code or str(act.fails))
            elif node.type is not NodeType.LOOP or not act.entered or act.again is False:
                taken = self._taken(node, act)
            elif lap == node.max_iterations:
                runs_over = node.on_max is OnMax.FAIL and node.condition is not None
                over = "max_iterations_reached"
                taken = self._handled(outgoing, Outcome.FAILED, over) if runs_over else self._taken(node, act)
            lap += 1
        self.known |= dict.fromkeys(outgoing, seen)
        return dict.fromkeys(taken, seen)

    def _give_up(self, key: NodeRunKey, outgoing: list[int]) -> dict[int, Seen]:
        self.known |= dict.fromkeys(outgoing, frozenset[NodeRunKey]())
        if self.idle[key]:
            # Of a map it is as good as certain that its list was there.
            self._count(self._steps(self.nodes[key.node]) + self.decided.inside.get(key, 0))
        else:
            self.skipped.add(key)
        return {}

    def _steps(self, node: Node) -> int:
        items = self.initial.get(node.items or "")
        own = node.type not in {NodeType.START, NodeType.END}
        return own + (len(items) if isinstance(items, list) else 0)

    def _handled(self, outgoing: list[int], became: Outcome, code: str) -> list[int]:
        handlers = [i for i in outgoing if became in self.graph.edges[i].on]
        if not handlers:
            raise Failed(code)
        return handlers

    def _key(self, node: Node) -> NodeRunKey:
        self.iterations[node.name] += 1
        return NodeRunKey(node.name, self.iterations[node.name], self.scope)

    def _run(self, node: Node, key: NodeRunKey, seen: Seen) -> tuple[Act, Seen]:
        self._count(self._steps(node))
        self.saw[key] = seen
        there = self.states[key] = self.state(seen)
        act = self._act(node, key, seen)
        if act.fails:
            self.failed.add(key)
            return act, seen
        self.ran.add(key)
        if not act.entered or not (node.function or act.changes or act.deletes or act.adds):
            return act, seen
        set_anew = act.changes
        if node.type in {NodeType.MAP, NodeType.WAIT}:
            # Of an attempt's diff it is the sandbox that leaves out what is there already.
            set_anew = {name: value for name, value in act.changes.items() if there.get(name, ...) != value}
        changes: Changes = {**set_anew, **dict.fromkeys(act.deletes & set(there))}
        for name, what in act.adds.items():
            assert isinstance(what, list | int)
            changes[name] = Added(what) if name in self.reduced else _total(name, [there.get(name), what])
        self.commits[key] = seen, changes
        after = seen | {key}
        self.made[key] = seen | self.before, set(changes), self.state(after)
        return act, after

    def _act(self, node: Node, key: NodeRunKey, seen: Seen) -> Act:
        if key in self.decided.overran:
            self._count(self.decided.inside.get(key, 0))
            return Act(fails=AttemptStatus.TIMEOUT, became=Outcome.TIMED_OUT)
        act = self.acts(key)
        if node.type is NodeType.WAIT:
            payload = self.decided.took.get(key)
            return replace(act, changes={} if payload is None else {node.into or "": payload})
        return self._subgraph(node, key, seen, act) if node.type is NodeType.SUBGRAPH else act

    def _subgraph(self, node: Node, key: NodeRunKey, seen: Seen, act: Act) -> Act:
        outside = self.state(seen)
        names = {name: name for name in outside} if node.inputs is None else dict(node.inputs)
        before = {name: outside[outer] for name, outer in names.items() if outer in outside}
        around = self, key.path, seen | self.before
        inner = Oracle(self.subgraphs[node.graph_id or ""], self.acts, before, self.decided, self.subgraphs, around)
        # Where something in it failed, how far others in it came until then is a matter of time.
        inner.counted_by = None if key in self.decided.inside else self
        result = inner.run()
        self._count(self.decided.inside.get(key, 0))
        if isinstance(result, str) or key in self.decided.exceeded:
            code = result if isinstance(result, str) else "max_steps_exceeded"
            return Act(fails=AttemptStatus.ERROR, code=code)
        if node.outputs is None:
            named = {name: name for name in before.keys() | result.keys() if before.get(name) != result.get(name)}
        else:
            named = dict(node.outputs)
        left = {outer: result.get(name) for outer, name in named.items()}
        changed = {outer: value for outer, value in left.items() if outside.get(outer) != value}
        adds = {outer: _difference(outside.get(outer), changed.pop(outer)) for outer in self.reduced & changed.keys()}
        gone = frozenset(outer for outer, value in changed.items() if value is None)
        kept: dict[str, Json] = {outer: value for outer, value in changed.items() if value is not None}
        return replace(act, changes=kept, deletes=gone, adds=adds)

    def _count(self, steps: int) -> None:
        counting, exceeded = list[Oracle](), None
        each: Oracle | None = self
        while each:
            counting.append(each)
            exceeded = each if each.steps + steps > each.graph.max_steps else exceeded
            each = each.counted_by
        if exceeded:
            raise Failed("max_steps_exceeded", exceeded)
        for each in counting:
            each.steps += steps

    def _taken(self, node: Node, act: Act) -> list[int]:
        edges = enumerate(self.graph.edges)
        outgoing = [i for i, edge in edges if edge.source == node.name and Outcome.SUCCEEDED in edge.on]
        if not outgoing:
            self.ended[node.name] = self._last(node)
        asked = [i for i in outgoing if self.graph.edges[i].condition]
        answers = dict(zip(asked, act.after, strict=True))
        default = [i for i in outgoing if self.graph.edges[i].default]
        return [i for i in outgoing if i not in default and answers.get(i, True)] or default

    def _last(self, node: Node) -> Seen:
        key = NodeRunKey(node.name, self.iterations[node.name], self.scope)
        return self.saw[key] | ({key} if key in self.commits else set())


def _total(name: str, values: list[Json]) -> Json:
    """Add up what was added to a key; lists in no order that means anything."""
    if name == "log":
        return sorted((each for value in values if isinstance(value, list) for each in value), key=str)
    return sum(value for value in values if isinstance(value, int))


def _difference(before: Json, after: Json) -> Json:
    if isinstance(after, list):
        return list(
            (Counter(map(str, after)) - Counter(map(str, before if isinstance(before, list) else []))).elements()
        )
    assert isinstance(after, int)
    return after - (before if isinstance(before, int) else 0)
