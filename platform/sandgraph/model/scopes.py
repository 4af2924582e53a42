"""What a subgraph leaves behind outside."""

from __future__ import annotations

from sandgraph.model.graph import Node
from sandgraph.model.state import DeleteKey, Op, SetKey, State, StateDiff
from sandgraph.model.values import same


def outputs(node: Node, outside: State, before: State, after: State) -> StateDiff:
    """Return what a subgraph changes in the state of its node.

    Args:
        node: Of type subgraph; without ``outputs``, all that changed inside is left, under its own keys.
        outside: The state that the node saw.
        before: The state that the subgraph began with.
        after: Its final state.
    """
    if node.outputs is None:
        changed = {key: value for key, value in after.items() if key not in before or not same(before[key], value)}
        gone = [key for key in before if key not in after]
    else:
        changed = {outer: after[inner] for outer, inner in node.outputs if inner in after}
        gone = [outer for outer, inner in node.outputs if inner not in after]
    ops: list[Op] = [
        SetKey(key, value) for key, value in changed.items() if key not in outside or not same(outside[key], value)
    ]
    ops += (DeleteKey(key) for key in gone if key in outside)
    return StateDiff(tuple(sorted(ops, key=lambda op: op.key)))
