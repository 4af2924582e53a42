"""What the API needs from the rest of the house: ports, implemented in `execution` and `store`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sandgraph.execution.health_report import HealthReport
from sandgraph.model.annotations import NO_ANNOTATIONS, UNCHANGED, AnnotationChange, Annotations
from sandgraph.model.graph import Graph
from sandgraph.model.quotas import Quotas, QuotaUse
from sandgraph.model.run import AttemptStatus, Failure, NodeRunKey
from sandgraph.model.state import Json, StateDiff
from sandgraph.model.webhooks import DeliveryStatus
from sandgraph.settings import Settings
from sandgraph.store.filters import GraphFilter, NameSort, RunFilter, RunSort
from sandgraph.store.records import (
    CodeKind,
    CodeVersion,
    CommitRecord,
    GraphVersion,
    JournalRecord,
    KeptAnswer,
    LogPage,
    LogQuery,
    NodeRunRecord,
    Page,
    RunRecord,
    RunSummary,
    Standing,
    TenantRecord,
)
from sandgraph.store.webhook_records import Delivery, Webhook


class Catalog(Protocol):
    """Takes in functions, tools and graphs; each is checked before anything of it is stored."""

    async def register_function(self, name: str, code: str) -> tuple[CodeVersion, bool]:
        """Return the version, and whether it is new.

        Raises:
            InvalidInput: At ``name`` or ``code``.
        """

    async def register_tool(self, name: str, code: str, description: str) -> tuple[CodeVersion, bool]:
        """Return the version, and whether it is new; raises as `register_function`."""

    async def create_graph(self, graph: Graph) -> tuple[GraphVersion, bool]:
        """Return the version, and whether it is new.

        Raises:
            InvalidInput: At the paths of the graph's document.
        """


class RunState(Protocol):
    """A state, and where it stands in the run's history."""

    @property
    def data(self) -> Mapping[str, Json]:
        """The state."""

    @property
    def commit(self) -> int:
        """Number of the checkpoint, or of the last commit so far."""

    @property
    def conflicts(self) -> Sequence[str]:
        """Keys that branches in flight have both set."""

    @property
    def writers(self) -> Mapping[str, Writer]:
        """Who set each key last."""


class Outcome(Protocol):
    """What an attempt came to."""

    @property
    def status(self) -> AttemptStatus:
        """How it ended."""

    @property
    def diff(self) -> StateDiff:
        """What it changed."""

    @property
    def entered(self) -> bool:
        """False where a loop's first check said no."""

    @property
    def again(self) -> bool | None:
        """Whether the loop's condition held still."""

    @property
    def after(self) -> Sequence[bool]:
        """The answers of the outgoing edges' conditions."""

    @property
    def value(self) -> Json:
        """The result, where it ran for an item of a map."""

    @property
    def failure(self) -> Failure | None:
        """Why it failed, where it did."""


class Replayed(Protocol):
    """An attempt that was tried again."""

    @property
    def run_id(self) -> str:
        """The run."""

    @property
    def key(self) -> NodeRunKey:
        """The node run."""

    @property
    def attempt(self) -> int:
        """Which try."""

    @property
    def drift(self) -> Sequence[str]:
        """Names of what is not the same."""

    @property
    def recorded(self) -> Outcome:
        """What it came to."""

    @property
    def replayed(self) -> Outcome:
        """What it came to now."""

    @property
    def images(self) -> tuple[str, str]:
        """The sandbox image that it ran in, and the one by now."""


class Writer(Protocol):
    """Who set a key."""

    @property
    def commit(self) -> int:
        """Number of the checkpoint; 0 is the initial state."""

    @property
    def key(self) -> NodeRunKey | None:
        """The node run; None where it came with the initial state."""

    @property
    def attempt(self) -> int | None:
        """The attempt, where one did."""


class EventReceipt(Protocol):
    """An event that a run was sent, and stored."""

    @property
    def run_id(self) -> str:
        """The run."""

    @property
    def event_id(self) -> str:
        """Unique in the run."""

    @property
    def name(self) -> str:
        """What waits speak of."""

    @property
    def is_new(self) -> bool:
        """Whether the run had no event of that id before."""


class Place(Protocol):
    """Where a run stands that waits for its turn."""

    @property
    def position(self) -> int:
        """From 1: how many come before it, and one."""

    @property
    def waits_for(self) -> str:
        """The bound that holds it: ``max_concurrent_runs`` of its graph, or ``max_active_runs``."""


class Runs(Protocol):
    """Starts, watches and stops runs."""

    async def submit(
        self,
        graph_id: str,
        initial_state: Mapping[str, Json],
        *,
        idempotency_key: str | None = None,
        annotations: Annotations = NO_ANNOTATIONS,
    ) -> tuple[RunRecord, bool]:
        """Accept a run and return it, and whether it is new.

        Raises:
            NotFound: There is no such graph.
            InvalidInput: At ``initial_state``.
            QueueFull: No more runs may wait.
            Conflict: The key was used for another graph or state.
        """

    async def wait(self, run_id: str, timeout_s: float) -> RunRecord:
        """Return the run once it ended, or as it is after that time."""

    async def annotate(self, run_id: str, change: AnnotationChange, expected: frozenset[int] | None) -> Annotations:
        """Change what is noted about a run, where it is of one of the ``expected`` revisions, and return it.

        Raises:
            NotFound: There is no such run.
            PreconditionFailed: It is of another revision.
            InvalidInput: There would be too much (``metadata``).
        """

    async def cancel(self, run_id: str) -> RunRecord:
        """Cancel a run and return it; one that is cancelled already, as it is.

        Raises:
            NotFound: There is no such run.
            Conflict: It ended otherwise (``run_already_finished``).
        """

    async def delete(self, run_id: str) -> None:
        """Delete a run that has ended, and all that is kept of it.

        Raises:
            NotFound: There is no such run.
            Conflict: It has not ended (``run_not_finished``).
        """

    async def send_event(self, run_id: str, name: str, payload: Json, event_id: str | None) -> EventReceipt:
        """Give a run an event; the first node that waits for that name takes it, now or later.

        Args:
            run_id: The run.
            name: What waits speak of.
            payload: What the wait gets.
            event_id: The same one again is the same event; without it, each is another.

        Raises:
            NotFound: There is no such run.
            Conflict: The run has ended, or the id is that of another event.
        """

    async def pause(self, run_id: str) -> RunSummary:
        """Let what runs come to its end and start nothing more, until `unpause`; a paused run stays paused.

        Raises:
            NotFound: There is no such run.
            Conflict: It has ended (``run_already_finished``).
        """

    async def unpause(self, run_id: str) -> RunSummary:
        """Let a paused run go on; raises as `pause`."""

    async def fork(
        self,
        run_id: str,
        at: int,
        changes: StateDiff,
        *,
        latest: bool,
        idempotency_key: str | None,
        annotated: AnnotationChange = UNCHANGED,
    ) -> tuple[RunRecord, bool]:
        """Start a run that goes on from a checkpoint of another; return it, and whether it is new.

        Clients are told of it by ``forked_from`` and ``forked_at`` of the record, which is the number of that
        checkpoint, and of no event.

        Args:
            run_id: The other one, which stays as it is.
            at: The checkpoint.
            changes: To the state there.
            latest: Whether it pins functions and tools as they are by now, and not as the other did.
            idempotency_key: As in `submit`.
            annotated: What is to be noted otherwise than about the other one.

        Raises:
            NotFound: There is no such run, or ``checkpoint``.
            InvalidInput: At ``state`` or ``delete``.
            QueueFull: No more runs may wait.
            Conflict: The key was used for something else, or the run cannot be forked there.
        """

    async def resume(
        self, run_id: str, *, latest: bool, idempotency_key: str | None, annotated: AnnotationChange = UNCHANGED
    ) -> tuple[RunRecord, bool]:
        """Start a run that goes on where one that did not complete ended; as `fork`, from its last checkpoint.

        Raises:
            NotFound: There is no such run.
            QueueFull: No more runs may wait.
            Conflict: The key was used for something else, or the run goes on or completed.
        """

    async def replay(self, run_id: str, key: NodeRunKey, attempt: int | None) -> Replayed:
        """Run an attempt again over what it saw, and compare; nothing of it is stored.

        Raises:
            NotFound: There is no such run, node run or attempt.
            Conflict: It has not ended (``attempt_not_finished``), or the run cannot be made again.
        """

    async def place(self, run_id: str) -> Place | None:
        """Return where a run stands that waits for its turn; None for others."""

    def follow(self, run_id: str, after: int) -> AsyncGenerator[list[JournalRecord]]:
        """Yield stored records after that number in order, then live ones, up to the run's end.

        Raises:
            NotFound: There is no such run; on the first iteration.
        """


class Reader(Protocol):
    """The store, reading. A page of a list may be short, and even empty, before the list's end."""

    async def list_code(
        self, kind: CodeKind, *, prefix: str, sort: NameSort, cursor: str | None, limit: int
    ) -> Page[CodeVersion]:
        """Return the latest version of each function or tool whose name begins so."""

    async def code_versions(
        self, kind: CodeKind, name: str, *, version: int | None, cursor: str | None, limit: int
    ) -> Page[CodeVersion]:
        """Return the versions of a function or tool, the latest first, or one of them; or raise NotFound."""

    async def graph(self, graph_id: str) -> GraphVersion:
        """Return a graph version, or raise NotFound."""

    async def list_graphs(
        self, where: GraphFilter, *, sort: NameSort, cursor: str | None, limit: int
    ) -> Page[GraphVersion]:
        """Return graph versions."""

    async def run_summary(self, run_id: str) -> RunSummary:
        """Return a run without its states, or raise NotFound."""

    async def list_runs(self, where: RunFilter, *, sort: RunSort, cursor: str | None, limit: int) -> Page[RunSummary]:
        """Return runs without their states."""

    async def standing(self, run_id: str, *, after: int, limit: int) -> Standing:
        """Return a run without its states, so many of its node runs that follow one, and those in progress.

        Raises:
            NotFound: There is no such run.
        """

    async def state(self, run_id: str, at: int | None) -> tuple[RunSummary, RunState]:
        """Return a run without its states, and its state by now, or that of checkpoint ``at``.

        Raises:
            NotFound: There is no such run, or ``checkpoint``.
        """

    async def node_runs(self, run_id: str) -> Sequence[NodeRunRecord]:
        """Return a run's node runs in order of their start."""

    async def history(
        self, run_id: str, *, scope: str | None, node: str | None, cursor: str | None, limit: int
    ) -> Page[CommitRecord]:
        """Return a run's commits, first ones first; of one scope, one node or of all."""

    async def journal(self, run_id: str, *, after: int, limit: int) -> Sequence[JournalRecord]:
        """Return records after that number, in order."""

    async def log(self, run_id: str, query: LogQuery) -> LogPage:
        """Return a page of what a run printed, or raise NotFound; it may be empty and yet not the last."""


class Webhooks(Protocol):
    """The endpoints that are told of runs that end, and what they were told."""

    async def create(
        self, url: str, events: Sequence[str], *, graph: str | None, description: str, secret: str | None, enabled: bool
    ) -> tuple[Webhook, str]:
        """Make a webhook, and return it and its secret.

        Raises:
            InvalidInput: At ``url``: it leads where nothing may be sent.
            Conflict: There are as many as there may be.
        """

    async def get(self, webhook_id: str) -> Webhook:
        """Return a webhook, or raise NotFound."""

    async def page(self, *, cursor: str | None, limit: int) -> Page[Webhook]:
        """Return webhooks, newest first."""

    async def change(self, webhook_id: str, changes: Mapping[str, object], version: int | None) -> Webhook:
        """Change a webhook.

        Raises:
            NotFound: There is none of that id.
            InvalidInput: At ``url``.
            Conflict: It is not of that version any more.
        """

    async def rotate(self, webhook_id: str) -> tuple[Webhook, str]:
        """Give a webhook another secret, and return that too; or raise NotFound."""

    async def remove(self, webhook_id: str) -> Webhook:
        """Remove a webhook, and return it as it was; or raise NotFound."""

    async def ping(self, webhook_id: str) -> Delivery:
        """Send a webhook something that says nothing.

        Raises:
            NotFound: There is none of that id.
            Conflict: It is disabled, or too much waits for it.
        """

    async def deliveries(
        self, webhook_id: str, *, status: DeliveryStatus | None, cursor: str | None, limit: int
    ) -> Page[Delivery]:
        """Return what a webhook was told, newest first; or raise NotFound."""

    async def redeliver(self, webhook_id: str, delivery_id: str) -> Delivery:
        """Have a delivery made once more.

        Raises:
            NotFound: There is none of that id.
            Conflict: It is still to be made, the webhook is disabled, or too much waits for it.
        """


class Answers(Protocol):
    """What requests with an Idempotency-Key were answered, of all tenants."""

    async def find(self, tenant: str, route: str, key: str) -> KeptAnswer | None:
        """Return what a request with this key was answered, if it is kept still."""

    async def keep(self, tenant: str, route: str, key: str, answer: KeptAnswer) -> None:
        """Keep an answer."""


class Health(Protocol):
    """Whether the platform works."""

    def alive(self) -> HealthReport:
        """Tell whether the process works, or had better be started again."""

    async def ready(self) -> HealthReport:
        """Tell whether it can take runs and do them; within two seconds."""


class Tenants(Protocol):
    """The tenants of the deployment, for who operates it."""

    async def page(self, *, cursor: str | None, limit: int) -> Page[TenantRecord]:
        """Return those that there is something of, in the order of their names."""

    async def get(self, tenant: str) -> TenantRecord:
        """Return a tenant; one of which nothing is stored has no quotas of its own."""

    async def set(self, tenant: str, quotas: Mapping[str, float], versions: Collection[int] | None) -> TenantRecord:
        """Give a tenant quotas of its own, in the place of those that it had.

        Raises:
            Conflict: None of the versions is the present one (``tenant_changed``).
        """

    def of(self, tenant: str) -> Quotas:
        """Return a tenant's quotas, its own and the deployment's."""

    def use(self, tenant: str) -> QuotaUse:
        """Return what a tenant uses now."""


@dataclass(frozen=True, slots=True)
class Services:
    """All that the API works with, for one tenant: ids of other tenants are not found."""

    catalog: Catalog
    runs: Runs
    reader: Reader
    webhooks: Webhooks
    health: Health
    settings: Settings
    tenants: Tenants
    #: Without them, nothing but runs is done once only.
    answers: Answers | None = None


#: Services by tenant; made anew for each request.
ServicesFor = Callable[[str], Services]
