"""Writes docs/metrics.md: every metric there is. Run as ``python -m scripts.metrics_page``."""

from __future__ import annotations

from pathlib import Path

from sandgraph.telemetry.metrics import Described, Metrics

PAGE = Path(__file__).resolve().parents[1] / "docs" / "metrics.md"

_HEAD = """# Metrics

`GET /metrics` gives them in Prometheus's text format, and in OpenMetrics to who accepts that. Programs on the same
machine may read it, and keys of the tenant `default` with `read` or `admin`; `SANDGRAPH_METRICS_PUBLIC` lets
everybody. Names have their unit, no label has the id of a run, and the label `tenant` is there only with
`SANDGRAPH_METRICS_TENANT_LABEL`: a hundred tenants by name, all others as `other`. [Watching a
platform](observability.md) has the dashboard, the alerts, and what to do about each.

This page is made from the same source, by `python -m scripts.metrics_page`.

| Metric | Kind | Labels | |
|---|---|---|---|
"""

_PROCESS = (
    ("resident_memory_bytes", "gauge", "Memory of the process."),
    ("virtual_memory_bytes", "gauge", "Its address space."),
    ("cpu_seconds_total", "counter", "CPU time of the process."),
    ("open_fds", "gauge", "Files and sockets that it has open."),
    ("max_fds", "gauge", "How many it may have."),
    ("start_time_seconds", "gauge", "When it began, in seconds since 1970."),
)


def render() -> str:
    """Return the page."""
    process = [Described(f"sandgraph_process_{name}", kind, (), text) for name, kind, text in _PROCESS]
    rows = sorted([*Metrics(by_tenant=True).described, *process], key=lambda each: each.name)
    lines = [
        f"| `{row.name}` | {row.kind} | {', '.join(f'`{label}`' for label in row.labels)} | {row.text} |"
        for row in rows
    ]
    return _HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
    print(f"{PAGE} is written.")
