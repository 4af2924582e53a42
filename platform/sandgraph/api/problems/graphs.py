"""What is wrong with a graph."""

from __future__ import annotations

from sandgraph.api.problems.page import Page, of

_wrong = of(422)
_NODE, _EDGE = "nodes[1]", "edges[1]"


def _required(name: str, owner: str, detail: str) -> Page:
    todo = f"Give the node its `{name}`."
    return _wrong(f"{name}_required", f"{owner} needs `{name}`.", todo, detail, f"{_NODE}.{name}")


def _not_allowed(name: str, owners: str) -> Page:
    means = f"Only {owners} has `{name}`; this node is of another type."
    todo = f"Leave `{name}` out, or give the node the type that is meant."
    return _wrong(f"{name}_not_allowed", means, todo, f"Only {owners} has {name}.", f"{_NODE}.{name}")


_NODES = (
    _wrong(
        "no_nodes",
        "The graph has no nodes.",
        "Give it at least one.",
        "A graph needs at least one node.",
        "nodes",
    ),
    _wrong(
        "too_many_nodes",
        "There are more nodes than `SANDGRAPH_MAX_NODES`, those of subgraphs among them.",
        "Split the graph, let a map or a loop repeat what is alike, or have the bound raised.",
        "There are 700 nodes; a graph may have 500.",
        "nodes",
    ),
    _wrong(
        "too_many_edges",
        "There are more edges than `SANDGRAPH_MAX_EDGES`.",
        "Put a node without a function between many sources and many targets.",
        "There are 2500 edges; a graph may have 2000.",
        "edges",
    ),
    _wrong(
        "duplicate_node",
        "Two nodes have one name.",
        "Rename one of them.",
        "The name 'work' is already that of nodes[0].",
        f"{_NODE}.name",
    ),
    _wrong(
        "unknown_node_type",
        "There is no such type of node.",
        "Choose `start`, `end`, `standard`, `loop`, `subgraph`, `map` or `wait`.",
        "It must be 'start', 'end', 'standard', 'loop', 'subgraph', 'map' or 'wait'.",
        f"{_NODE}.type",
    ),
    _wrong(
        "unknown_node",
        "An edge or `start_node` names a node that the graph does not have.",
        "Add the node, or correct the name.",
        "There is no node 'wrok'.",
        f"{_EDGE}.target",
    ),
    _wrong(
        "no_start",
        "Nothing says where a run begins.",
        "Name a node in `start_node`, or add one of type `start`.",
        'There is no start: name one in "start_node", or add a node of type start.',
        "start_node",
    ),
    _wrong(
        "two_starts",
        "There are two places where a run could begin.",
        "Leave one of them out.",
        "nodes[0] is a start node already; there can be one.",
        f"{_NODE}.type",
    ),
    _wrong(
        "unreachable_node",
        "No path leads from the start to the node: it could never run.",
        "Add an edge to it, or leave it out.",
        "No path leads from 'start' to 'work'.",
        _NODE,
    ),
)

_EDGES = (
    _wrong(
        "duplicate_edge",
        "There are two edges with the same source and target.",
        "Join their conditions with `or`, and what they are taken on in one list.",
        "There is an edge from 'start' to 'work' already; join their conditions with `or`, and what they are taken "
        "on in one list.",
        _EDGE,
    ),
    _wrong(
        "edge_from_end",
        "An edge leaves a node of type `end`.",
        "Leave the edge out, or make the node a standard one without a function.",
        "'end' is an end: no edge leaves it.",
        f"{_EDGE}.source",
    ),
    _wrong(
        "edge_to_start",
        "An edge enters the node of type `start`.",
        "Let it lead to the node behind the start.",
        "'start' is the start: no edge enters it.",
        f"{_EDGE}.target",
    ),
    _wrong(
        "two_defaults",
        "A node has more than one default edge.",
        "Keep one; several edges are taken at once where their conditions hold.",
        "'score' has more than one default edge.",
        f"{_EDGE}.default",
    ),
    _wrong(
        "default_with_condition",
        "An edge is the default one and has a condition too.",
        "Leave one of the two out: a default edge is taken when no other is.",
        "A default edge is taken when no other is: no condition.",
        f"{_EDGE}.default",
    ),
    _wrong(
        "on_with_condition",
        "An edge that is taken on something else than success has a condition, which could be asked nowhere.",
        "Let the edge lead to a node without a function, and put the condition behind that.",
        "A condition is asked where its source ran, once it has succeeded, and not on anything else; let the edge lead "
        "to a node without a function, and put the condition behind that.",
        f"{_EDGE}.on",
    ),
    _wrong(
        "on_with_default",
        "A default edge says what it is taken on.",
        "Leave one of the two out: a default edge is one of those that are taken on success.",
        "A default edge is one of those that are taken on success.",
        f"{_EDGE}.on",
    ),
    _wrong(
        "on_with_back_edge",
        "An edge that closes a cycle is taken on something else than success.",
        "Let a retry, or a loop, try again what failed.",
        "An edge that goes back is taken on success alone.",
        f"{_EDGE}.on",
    ),
    _wrong(
        "irreducible_cycle",
        "A cycle can be entered at more than one node, so that nobody can say where its next pass begins.",
        "Let all that enters it go through one node.",
        "The cycle through 'a' and 'b' can be entered at more than one node; let all enter at one.",
        "edges",
    ),
    _wrong(
        "unbounded_loop",
        "A cycle could go round without an attempt, so that nothing could ever end it.",
        "Give a node in it a function, a condition on the way out, or make it a loop with `max_iterations`.",
        "Nothing in the cycle through 'a' and 'b' takes an attempt.",
        "edges",
    ),
    _wrong(
        "loops_too_deep",
        "Too many loops lie in each other.",
        "Move the inner ones into a subgraph, or make one loop of several.",
        "More than 16 loops lie in each other here.",
        "edges[7]",
    ),
)

_NEEDS = (
    _wrong(
        "unknown_function",
        "No function of that name is registered.",
        "Register it first, with POST /nodes/register, or correct the name.",
        "No function 'double' is registered; register it first.",
        f"{_NODE}.function",
    ),
    _wrong(
        "unknown_graph",
        "A subgraph names a graph version that is not there.",
        "Create that graph first; `graph_id` is what that answers, and not the name.",
        "There is no graph 'graph_01M83P6AAQTJJHCZVMJRSGVCH0'.",
        f"{_NODE}.graph_id",
    ),
    _required("function", "A loop or a map", "A loop needs the function that is its body."),
    _required("items", "A map", "A map needs the state key of the list that it runs over."),
    _required("into", "A map", "A map needs the state key that gets the results."),
    _required("event", "A wait without `timeout_s`", "A wait needs the event that ends it, or timeout_s, or both."),
    _required("graph_id", "A subgraph", "A subgraph needs the graph_id of the graph version that it runs."),
    _not_allowed("function", "a standard node, a loop or a map"),
    _not_allowed("condition", "a loop"),
    _not_allowed("max_iterations", "a loop"),
    _not_allowed("items", "a map"),
    _not_allowed("into", "a map or a wait"),
    _not_allowed("max_concurrency", "a map"),
    _not_allowed("event", "a wait"),
    _not_allowed("timeout_s", "a wait, a map or a subgraph"),
    _not_allowed("graph_id", "a subgraph"),
    _not_allowed("inputs", "a subgraph"),
    _not_allowed("outputs", "a subgraph"),
    _wrong(
        "too_few_inputs",
        "A node's `join` waits for more inputs than lead to it.",
        "Lower the number, or say `all`.",
        "It waits for 3 inputs, and has 2.",
        f"{_NODE}.join",
    ),
    _wrong(
        "subgraphs_too_deep",
        "Too many subgraphs lie in each other.",
        "Let fewer of them lie in each other.",
        "More than 16 subgraphs lie in each other here.",
        f"{_NODE}.graph_id",
    ),
)

_BOUNDS = (
    _wrong(
        "limit_above_ceiling",
        "A limit is above what this deployment allows.",
        "Ask for less, or have the ceiling raised (`SANDGRAPH_CEILING_…`, `SANDGRAPH_MAX_STEPS`, "
        "`SANDGRAPH_RUN_TIMEOUT_S`).",
        "4096 is above this deployment's ceiling of 1024.",
        f"{_NODE}.limits.memory_mb",
    ),
    _wrong(
        "limit_below_floor",
        "A limit is below what a sandbox needs to start.",
        "Ask for at least what the message names.",
        "4 is below the least a sandbox needs, 16.",
        f"{_NODE}.limits.memory_mb",
    ),
    _wrong(
        "not_retryable",
        "`retry.on` names an end after which nothing is tried again.",
        "Leave it out.",
        "What ended as 'cancelled' is never tried again.",
        f"{_NODE}.retry.on",
    ),
    _wrong(
        "runtime_not_allowed",
        "The graph asks for an OCI runtime that the deployment does not offer; a run that began when it did fails.",
        "Leave `runtime` out, or have it added to `SANDGRAPH_RUNTIMES`.",
        "This deployment offers no runtime 'kata': SANDGRAPH_RUNTIMES lists those that a graph may choose.",
        "runtime",
    ),
)

PAGES = (*_NODES, *_EDGES, *_NEEDS, *_BOUNDS)
