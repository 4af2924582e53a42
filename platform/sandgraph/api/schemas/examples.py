"""What answers look like, for the API's description: one run of one graph, from all sides."""

from __future__ import annotations

Example = dict[str, object]

_GRAPH_ID, _RUN_ID = "graph_01M83P6AAQTJJHCZVMJRSGVCH0", "run_01M83P6WKPG4A75175D707R5SQ"
_CREATED, _STARTED, _FINISHED = (f"2026-11-23T12:00:00.{micros}Z" for micros in ("123456", "130000", "160000"))
_TIMES: Example = {"started_at": _STARTED, "finished_at": _FINISHED, "duration_ms": 30.0}

_CODE: Example = {"name": "double", "version": 1, "hash": "9f" * 32, "description": "", "created_at": _CREATED}
_TOOL: Example = {**_CODE, "name": "greet", "description": "Greets somebody."}

_SOURCE: Example = {**_CODE, "code": 'def double(state):\n    state.set("output", state.get("input") * 2)\n'}

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
_READS: Example = {"keys": ["input"], "cut": False}
_ATTEMPT: Example = {
    "attempt": 1,
    "status": "succeeded",
    "error": None,
    "usage": _USAGE,
    "reads": _READS,
    **_TIMES,
}
_WHICH: Example = {"node": "double", "iteration": 1, "scope": ""}
_NODE: Example = {**_WHICH, "status": "succeeded", "message": "", "error": None, **_TIMES}

_NOTES: Example = {"tags": ["team:a"], "metadata": {"ticket": "OPS-17"}}
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
    **_NOTES,
}
_TRACE: Example = {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7"}
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
    "paused": False,
    "forked_from": None,
    "recoveries": 0,
    "trace": _TRACE,
    **_NOTES,
}
_RUN_STATUS: Example = {
    **_RUN_SUMMARY,
    "queue": None,
    "current_nodes": [],
    "node_runs": [{**_NODE, "attempts": [_ATTEMPT]}],
    "next_cursor": None,
}
_STATE: Example = {
    "run_id": _RUN_ID,
    "status": "completed",
    "commit": 1,
    "data": {"input": 5, "output": 10},
    "conflicts": [],
    "writers": {
        "input": {"commit": 0, "node": None, "iteration": None, "scope": "", "attempt": None},
        "output": {"commit": 1, **_WHICH, "attempt": 1},
    },
}
_DIFF: list[Example] = [{"op": "set", "key": "output", "value": 10}]
_COMMIT: Example = {
    "number": 1,
    "parents": [0],
    **_WHICH,
    "attempt": 1,
    "diff": _DIFF,
    "merged": [],
    "created_at": _FINISHED,
}
_OUTCOME: Example = {
    "status": "succeeded",
    "diff": _DIFF,
    "conditions": {"entered": True, "again": None, "after": []},
    "value": None,
    "error": None,
}
_REPLAY: Example = {
    "run_id": _RUN_ID,
    **_WHICH,
    "attempt": 1,
    "drift": [],
    "recorded": _OUTCOME,
    "replayed": _OUTCOME,
    "images": {"recorded": "sha256:" + "5d" * 32, "replayed": "sha256:" + "5d" * 32},
}

_ERROR: Example = {
    "code": "graph_not_found",
    "type": "/errors/graph_not_found",
    "title": "Graph not found",
    "statuses": [404],
    "means": "There is no graph version of that id.",
    "todo": "GET /graph/list lists them; `graph_id` names a version, and is not the name.",
    "example": {
        "type": "/errors/graph_not_found",
        "title": "Graph not found",
        "status": 404,
        "code": "graph_not_found",
        "detail": "There is no graph 'double'.",
        "errors": [{"path": "graph_id", "code": "graph_not_found", "message": "There is no graph 'double'."}],
    },
}

_LOG_RECORD: Example = {
    "seq": 6,
    "ts": _STARTED,
    "kind": "log",
    "type": "stderr",
    **_WHICH,
    "attempt": 1,
    "status": "running",
    "message": "WARNING: nothing to double",
    "stream": "stderr",
    "level": "warning",
    "data": {"elapsed_s": 0.004, "cut": False},
    "trace": _TRACE,
    "final": False,
}
_LOG: Example = {
    "run_id": _RUN_ID,
    "records": [_LOG_RECORD],
    "next": 17,
    "previous": None,
    "more": False,
    "final": True,
}
_KEY: Example = {
    "key_id": "key_01M83P6AAQTJJHCZVMJRSGVCH0",
    "prefix": "sgk_01M83P6AAQTJJHCZVMJRSGVCH0",
    "tenant": "default",
    "name": "ci",
    "scopes": ["read", "submit"],
    "created_at": _CREATED,
    "created_by": "key_01M83P5ZZZTJJHCZVMJRSGVCH0",
    "expires_at": "2027-02-21T12:00:00.123456Z",
    "last_used_at": None,
    "revoked_at": None,
}
# Put together, so that no scanner takes this file for a leak.
_KEY_TEXT = "_".join(("sgk", "01M83P6AAQTJJHCZVMJRSGVCH0", "x" * 43, "000000"))
_WHO: Example = {
    "tenant": "default",
    "subject": "key_01M83P6AAQTJJHCZVMJRSGVCH0",
    "scopes": ["read", "submit"],
    "key_id": "key_01M83P6AAQTJJHCZVMJRSGVCH0",
    "expires_at": "2027-02-21T12:00:00.123456Z",
    "open": False,
}
_TICKET: Example = {"ticket": "sgt_" + "x" * 43, "path": f"/graph/ws/{_RUN_ID}", "expires_at": _FINISHED}

#: By the name of the answer. The framework would leave nulls out of examples that models have themselves.
_WEBHOOK: Example = {
    "webhook_id": "webhook_01M83P6WKPG4A75175D707R5SQ",
    "url": "https://example.com/hooks/sandgraph",
    "events": ["run.completed", "run.failed"],
    "graph": None,
    "description": "Tells the team.",
    "enabled": True,
    "disabled_reason": None,
    "version": 1,
    "failures": 0,
    "paused_until": None,
    "pending": 0,
    "dropped": 0,
    "created_at": _CREATED,
    "updated_at": _CREATED,
}
_DELIVERY: Example = {
    "delivery_id": "msg_01M83P6WKPG4A75175D707R5SQ",
    "webhook_id": "webhook_01M83P6WKPG4A75175D707R5SQ",
    "event": "run.completed",
    "run_id": _RUN_ID,
    "status": "delivered",
    "attempts": 1,
    "tries": [{"at": _FINISHED, "status": 204, "latency_ms": 41.5, "error": None}],
    "next_attempt_at": None,
    "created_at": _FINISHED,
    "finished_at": _FINISHED,
}

_TENANT = {
    "tenant": "acme",
    "quotas": {
        "max_active_runs": 8,
        "max_queued_runs": 0,
        "cpu_s_per_day": 36_000.0,
        "stored_mb": 0,
        "requests_per_minute": 120_000,
    },
    "own": ["cpu_s_per_day", "max_active_runs"],
    "use": {"active_runs": 2, "queued_runs": 0, "cpu_s_today": 1_204.25, "stored_bytes": 52_428_800},
    "version": 3,
    "created_at": _FINISHED,
    "updated_at": _FINISHED,
}

ANSWERS: dict[str, Example] = {
    "CodeAnswer": _CODE,
    "SourceAnswer": _SOURCE,
    "VersionList": {"name": "double", "versions": [_SOURCE], "next_cursor": None},
    "AnnotationsAnswer": {"run_id": _RUN_ID, **_NOTES},
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
    "HistoryAnswer": {"commits": [_COMMIT], "next_cursor": None},
    "EventAnswer": {"run_id": _RUN_ID, "name": "approved", "event_id": "approval-17", "status": "accepted"},
    "ReplayAnswer": _REPLAY,
    "ErrorCodeAnswer": _ERROR,
    "ErrorCodeList": {"errors": [_ERROR]},
    "LogPageAnswer": _LOG,
    "LogRecord": _LOG_RECORD,
    "TenantAnswer": _TENANT,
    "TenantList": {"tenants": [_TENANT], "next_cursor": None},
    "WebhookAnswer": _WEBHOOK,
    "WebhookCreated": {**_WEBHOOK, "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
    "WebhookList": {"webhooks": [_WEBHOOK], "next_cursor": None},
    "DeliveryAnswer": _DELIVERY,
    "DeliveryList": {"deliveries": [_DELIVERY], "next_cursor": None},
    "ApiKeyAnswer": _KEY,
    "ApiKeyMade": {**_KEY, "key": _KEY_TEXT},
    "ApiKeyList": {"keys": [_KEY], "next_cursor": None},
    "WhoamiAnswer": _WHO,
    "TicketAnswer": _TICKET,
    "HealthAnswer": {"status": "ok"},
}
