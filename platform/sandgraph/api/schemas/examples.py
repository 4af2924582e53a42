"""What answers look like, for the API's description: one run of one graph, from all sides."""

from __future__ import annotations

Example = dict[str, object]

_GRAPH_ID, _RUN_ID = "graph_01M83P6AAQTJJHCZVMJRSGVCH0", "run_01M83P6WKPG4A75175D707R5SQ"
_CREATED, _STARTED, _FINISHED = (f"2026-11-23T12:00:00.{micros}Z" for micros in ("123456", "130000", "160000"))
_TIMES: Example = {"started_at": _STARTED, "finished_at": _FINISHED, "duration_ms": 30.0}

_CODE: Example = {"name": "double", "version": 1, "hash": "9f" * 32, "description": "", "created_at": _CREATED}
_TOOL: Example = {**_CODE, "name": "greet", "description": "Greets somebody."}

_GRAPH_SUMMARY: Example = {
    "graph_id": _GRAPH_ID,
    "name": "double",
    "version": 1,
    "created_at": _CREATED,
    "node_count": 3,
    "edge_count": 2,
}
_GRAPH: Example = {
    **_GRAPH_SUMMARY,
    "graph": {
        "name": "double",
        "nodes": [
            {"name": "start", "type": "start"},
            {"name": "double", "type": "standard", "function": "double"},
            {"name": "end", "type": "end"},
        ],
        "edges": [{"source": "start", "target": "double"}, {"source": "double", "target": "end"}],
    },
}

_USAGE: Example = {
    "wall_s": 0.008,
    "cpu_s": 0.006,
    "peak_memory_bytes": 13_107_200,
    "pids_peak": 3,
    "output_bytes": 12,
    "oom_kills": 0,
    "exit_code": None,
    "signal": None,
    "queue_s": 0.0,
    "start_s": 0.002,
}
_ATTEMPT: Example = {"attempt": 1, "status": "succeeded", "error": None, "usage": _USAGE, **_TIMES}
_NODE: Example = {"node": "double", "iteration": 1, "status": "succeeded", "message": "", "error": None, **_TIMES}

_RUN_OUTCOME: Example = {
    "run_id": _RUN_ID,
    "graph_id": _GRAPH_ID,
    "status": "completed",
    "final_state": {
        "run_id": _RUN_ID,
        "data": {"input": 5, "output": 10},
        "execution_log": [{**_NODE, "attempt": 1, "usage": _USAGE}],
    },
    "error": None,
}
_RUN_SUMMARY: Example = {
    "run_id": _RUN_ID,
    "graph_id": _GRAPH_ID,
    "graph_name": "double",
    "status": "completed",
    "error": None,
    "created_at": _CREATED,
    **_TIMES,
    "last_seq": 17,
    "last_commit": 1,
}
_RUN_STATUS: Example = {**_RUN_SUMMARY, "current_nodes": [], "node_runs": [{**_NODE, "attempts": [_ATTEMPT]}]}
_STATE: Example = {
    "run_id": _RUN_ID,
    "status": "completed",
    "commit": 1,
    "data": {"input": 5, "output": 10},
    "conflicts": [],
}

#: By the name of the answer. The framework would leave nulls out of examples that models have themselves.
ANSWERS: dict[str, Example] = {
    "CodeAnswer": _CODE,
    "FunctionList": {"nodes": [_CODE], "next_cursor": None},
    "ToolList": {"tools": [_TOOL], "next_cursor": None},
    "GraphSummary": _GRAPH_SUMMARY,
    "GraphAnswer": _GRAPH,
    "GraphList": {"graphs": [_GRAPH_SUMMARY], "next_cursor": None},
    "RunOutcome": _RUN_OUTCOME,
    "RunSummaryAnswer": _RUN_SUMMARY,
    "RunList": {"runs": [_RUN_SUMMARY], "next_cursor": None},
    "RunStatusAnswer": _RUN_STATUS,
    "StateAnswer": _STATE,
    "HealthAnswer": {"status": "ok"},
}
