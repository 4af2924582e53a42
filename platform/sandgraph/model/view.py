"""What a branch of a run sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sandgraph.model.diff import DeleteKey, Op, ReduceKey, SetKey, StateDiff
from sandgraph.model.values import State

#: Commit number to its parents', as far back as live branches differ.
Parents = Mapping[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class Reduction:
    """A reducer's operation on a key, and those before it since the key was last set or deleted.

    Views that have a common past share its part of the chain.

    Attributes:
        number: The commit that made it.
        op: The operation.
        before: The one before, unless that is forgotten.
        base: A commit that set or deleted the key last, or some commit in the past of all live branches.
        length: How many there are in the chain.
    """

    number: int
    op: ReduceKey
    before: Reduction | None = field(repr=False)
    base: int
    length: int

    @classmethod
    def after(cls, before: Reduction | None, number: int, op: ReduceKey, base: int) -> Reduction:
        """Return a chain that goes on; ``base`` counts where it only begins."""
        if before is None:
            return cls(number, op, None, base, 1)
        return cls(number, op, before, before.base, before.length + 1)

    def __eq__(self, other: object) -> bool:
        # Chains are too long for recursion.
        one: Reduction | None = self
        another = other if isinstance(other, Reduction) else None
        while one is not None and another is not None and one is not another:
            if (one.number, one.op, one.base, one.length) != (another.number, another.op, another.base, another.length):
                return False
            one, another = one.before, another.before
        return one is another

    def __hash__(self) -> int:
        return hash((self.number, self.op.key, self.length))


@dataclass(frozen=True, slots=True)
class View:
    """What a branch sees: its own causal past and nothing else.

    Attributes:
        heads: Numbers of the last commits of that past, ascending; commit 0 is the initial state.
        state: The state they make. Not to be changed.
        writers: Key to the number of the commit that set, deleted or reduced it last.
        chains: Key to its reductions since it was set or deleted, as far back as live branches may differ.
        trunk: The commit over whose state the view is laid: its own last, or that of the first branch where several
            met.
        merged: Keys in which the state may differ from the trunk's: those that other branches changed, or that a
            subgraph does not see as they are outside.
        depth: Commits from the initial state to the trunk, each over the trunk of the next.
    """

    heads: tuple[int, ...]
    state: State
    writers: Mapping[str, int]
    chains: Mapping[str, Reduction] = field(default_factory=dict)
    trunk: int = 0
    merged: frozenset[str] = frozenset()
    depth: int = 0

    @classmethod
    def initial(cls, state: State) -> View:
        """Return the view of commit 0."""
        return cls((0,), state, dict.fromkeys(state, 0))

    def after(self, number: int, diff: StateDiff, *, alone: bool = False) -> View:
        """Return the view after this branch made a commit.

        Args:
            number: The commit's, higher than all before.
            diff: What it changed.
            alone: Whether all live views have this one's heads, so that none differs in what came before.

        Raises:
            ValueError: A reducer cannot be applied, as `StateDiff.apply_to` says.
        """
        before = {} if alone else self.chains
        if not diff:
            return View((number,), self.state, self.writers, before, number, frozenset(), self.depth + 1)
        chains = dict(before)
        for op in diff.ops:
            if isinstance(op, ReduceKey):
                chains[op.key] = Reduction.after(chains.get(op.key), number, op, self.writers.get(op.key, 0))
            else:
                chains.pop(op.key, None)
        writers = {**self.writers, **{op.key: number for op in diff.ops}}
        return View((number,), diff.apply(self.state), writers, chains, number, frozenset(), self.depth + 1)

    def inside(self, inputs: Sequence[tuple[str, str]] | None) -> View:
        """Return what a subgraph sees that starts here.

        Who wrote its keys is one of the heads: that is in the past of everything inside, as their true writers are.

        Args:
            inputs: Pairs of a key inside and one outside; the former is absent if the latter is. None for all keys,
                as they are.
        """
        if inputs is None:
            names = {key: key for key in self.state}
        else:
            names = {inner: outer for inner, outer in inputs if outer in self.state}
        state = {inner: self.state[outer] for inner, outer in names.items()}
        changed = {inner for inner, outer in names.items() if inner != outer}
        merged = self.merged | changed | (self.state.keys() - state.keys())
        writers = dict.fromkeys(state, self.heads[-1])
        return View(self.heads, state, writers, {}, self.trunk, merged, self.depth)

    def merged_ops(self) -> StateDiff:
        """Return the sets and deletes that lead from the trunk's state to this one."""
        keys = sorted(self.merged)
        ops: list[Op] = [SetKey(key, self.state[key]) if key in self.state else DeleteKey(key) for key in keys]
        return StateDiff(tuple(ops))

    def merged_writers(self) -> dict[str, int]:
        """Return who wrote last what `merged_ops` sets."""
        return {key: self.writers[key] for key in sorted(self.merged) if key in self.state}

    def without_old_deletions(self, parents: Parents) -> View:
        """Forget who deleted keys before the live branches parted: no merge can ask."""
        kept = {key: number for key, number in self.writers.items() if key in self.state or number in parents}
        return View(self.heads, self.state, kept, self.chains, self.trunk, self.merged, self.depth)
