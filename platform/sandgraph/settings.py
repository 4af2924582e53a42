"""The deployment's settings: the only reader of the environment.

Every setting is an environment variable ``SANDGRAPH_<NAME>`` and, with dashes, an option of ``sandgraph serve``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address, ip_network
from pathlib import Path

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from sandgraph.errors import ConfigurationError

_PREFIX = "SANDGRAPH_"

#: Variables that docker-compose.yml and the tests read, and the platform does not.
_OF_OTHERS = frozenset(
    f"{_PREFIX}{name}"
    for name in ("BASE_IMAGE", "CA_FILE", "DOCKER_SOCKET", "LONG_TESTS", "PIP_CONF", "PLATFORM_IMAGE")
)

_SECRET = re.compile("secret|token|password|passphrase|private")
_USER_INFO = re.compile(r"://[^/@]*@")


class Access(StrEnum):
    """Whom a deployment lets in that has neither keys nor an issuer of tokens."""

    AUTO = "auto"
    CLOSED = "closed"
    OPEN = "open"


class Settings(BaseSettings):
    """What an operator can choose. Sizes are in the unit the name ends in; times are in seconds."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address the HTTP server binds.")
    port: int = Field(8000, ge=0, le=65535, description="Port the HTTP server binds; 0 picks a free one.")
    data_dir: Path = Field(Path("data"), description="Folder of the embedded database.")
    database_url: str = Field(
        "",
        pattern=r"^(postgres(ql)?(\+psycopg)?://.*)?$",
        repr=False,
        description="PostgreSQL database in the place of the embedded one: postgresql://user@host:5432/name.",
    )
    deployment: str = Field(
        "",
        pattern=r"^([a-z0-9][a-z0-9_.-]{0,62})?$",
        description="Names this deployment on the containers it owns; without it, a name kept in the data folder.",
    )

    access: Access = Field(
        Access.AUTO,
        description="Who is let in while there are neither keys nor an issuer: auto is everybody on a loopback "
        "address, and no start on another; closed is nobody; open is everybody who reaches it.",
    )
    oidc_issuer: str = Field("", description="Address of the OIDC issuer whose tokens are accepted; none without it.")
    oidc_audience: str = Field("", description="What tokens of the issuer must be for; required with an issuer.")
    oidc_jwks_url: str = Field("", description="Where the issuer's keys are; without it, where its configuration says.")
    oidc_tenant_claim: str = Field(
        "", description="Claim that names a token's tenant, or the path to it; without it, the tenant is default."
    )
    oidc_scope_claim: str = Field(
        "scope", min_length=1, description="Claim that has a token's scopes, or the path to it, as realm_access.roles."
    )
    oidc_scope_map: str = Field(
        "sandgraph:submit=submit, sandgraph:read=read, sandgraph:operate=operate, sandgraph:admin=admin",
        pattern=r"^ *[^=,\s]+=(submit|read|operate|admin)( *, *[^=,\s]+=(submit|read|operate|admin))* *$",
        description="What the scopes of tokens let do: pairs, separated by commas; one may be there several times.",
    )

    docker_host: str | None = Field(
        None, description="Address of the Docker engine; without it DOCKER_HOST, the CLI's context, then known sockets."
    )
    runner_image: str = Field("sandgraph-runner:latest", description="Image of the sandboxes.")
    runtime: str | None = Field(None, description="OCI runtime of the sandboxes; without it the engine's default.")
    runtimes: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_.-]*( *, *[A-Za-z0-9_.-]+)*$",
        description="Further OCI runtimes that a graph may choose, separated by commas.",
    )

    pool_min: int = Field(2, ge=0, le=256, description="Least started sandboxes kept waiting.")
    pool_max: int = Field(8, ge=0, le=256, description="Most started sandboxes kept waiting, of all kinds together.")
    pool_refill_parallelism: int = Field(4, ge=1, le=32, description="Most sandboxes started at the same time.")
    worker_slots: int = Field(4, ge=1, le=256, description="Attempts that run at the same time; tenants share them.")

    niceness: int = Field(
        -10,
        ge=-20,
        le=19,
        description="Rank of the platform among the machine's processes, as of nice(1), where the system lets it; 0 "
        "leaves it as it was started.",
    )

    max_active_runs: int = Field(
        32, ge=1, le=10_000, description="Runs in progress at the same time; tenants share them."
    )
    max_queued_runs: int = Field(1_000, ge=0, le=1_000_000, description="Accepted runs that may wait for their turn.")

    tenant_max_active_runs: int = Field(
        0, ge=0, le=10_000, description="Runs of one tenant in progress at the same time; 0 is any number."
    )
    tenant_max_queued_runs: int = Field(
        0, ge=0, le=1_000_000, description="Runs of one tenant that may wait for their turn; 0 is any number."
    )
    tenant_cpu_s_per_day: float = Field(
        0, ge=0, le=1e12, description="CPU-seconds of one tenant's attempts a day, in UTC; 0 is any number."
    )
    tenant_stored_mb: int = Field(
        0, ge=0, le=1_000_000_000, description="What may be stored of one tenant's runs; 0 is any amount."
    )
    max_run_output_mb: int = Field(
        256, ge=1, le=1_048_576, description="Most that one run may print, over all its attempts."
    )

    resume_runs: bool = Field(
        default=True, description="Go on with runs that were in progress when the platform stopped."
    )
    drain_s: float = Field(
        10, ge=0, le=3_600, description="Time that attempts in progress get to end once the platform is told to stop."
    )
    max_recoveries: int = Field(10, ge=1, le=10_000, description="Times that one run may be gone on with.")
    lease_s: float = Field(
        15,
        ge=1,
        le=3_600,
        description="Silence after which another process may take this one's place on its data folder.",
    )

    log_retention_days: float = Field(
        30, ge=0, le=36_500, description="Days for which a line that a run printed is kept; 0 keeps it with its run."
    )
    log_retention_mb: int = Field(
        0, ge=0, le=1_048_576, description="What all lines may take; the oldest go first. 0 is no bound."
    )
    run_retention_days: float = Field(
        0, ge=0, le=36_500, description="Days after its end for which a run is kept; 0 keeps it until it is deleted."
    )

    max_run_events: int = Field(1_000, ge=1, le=1_000_000, description="Events that may be sent to one run.")
    max_event_kb: int = Field(64, ge=1, le=65_536, description="Largest payload of an event, as JSON.")

    max_body_kb: int = Field(2_048, ge=1, le=262_144, description="Largest request body.")
    max_code_kb: int = Field(256, ge=1, le=16_384, description="Largest source of one function or tool.")
    max_tools_kb: int = Field(
        2_048, ge=1, le=4_096, description="Largest source of all tools together: each attempt gets them all."
    )
    max_state_kb: int = Field(4_096, ge=1, le=65_536, description="Largest state of a run, as JSON.")
    max_state_keys: int = Field(10_000, ge=1, le=1_000_000, description="Most top-level keys of a state.")
    max_state_values: int = Field(
        250_000,
        ge=1,
        le=100_000_000,
        description="Most values of a state, at any depth: elements of arrays and members of objects.",
    )
    max_state_depth: int = Field(64, ge=1, le=500, description="Deepest nesting of a state.")
    max_nodes: int = Field(500, ge=1, le=10_000, description="Most nodes of a graph.")
    max_edges: int = Field(2_000, ge=1, le=50_000, description="Most edges of a graph.")
    max_steps: int = Field(10_000, ge=1, le=1_000_000, description="Ceiling of a graph's max_steps.")
    run_timeout_s: float = Field(3_600, gt=0, le=604_800, description="Ceiling, and default, of a run's wall time.")
    sync_wait_s: float = Field(600, gt=0, le=86_400, description="Longest that POST /graph/run waits for its run.")

    ceiling_cpus: float = Field(2.0, gt=0, le=256, description="Most CPUs a node may ask for.")
    ceiling_memory_mb: int = Field(1_024, ge=16, le=1_048_576, description="Most memory a node may ask for.")
    ceiling_timeout_s: float = Field(600, gt=0, le=86_400, description="Longest attempt a node may ask for.")
    ceiling_pids: int = Field(256, ge=4, le=32_768, description="Most processes and threads a node may ask for.")
    ceiling_tmp_mb: int = Field(256, ge=1, le=65_536, description="Largest /tmp a node may ask for.")
    ceiling_output_kb: int = Field(16_384, ge=1, le=1_048_576, description="Most output a node may ask for.")

    key_reads_per_minute: int = Field(
        30_000, ge=0, le=10_000_000, description="Requests a minute that read, of one key or user; 0 is any number."
    )
    key_writes_per_minute: int = Field(
        6_000, ge=0, le=10_000_000, description="Requests a minute that change something, of one key or user."
    )
    key_streams_per_minute: int = Field(
        1_200, ge=0, le=10_000_000, description="Streams a minute that one key or user opens."
    )
    tenant_requests_per_minute: int = Field(
        120_000, ge=0, le=10_000_000, description="Requests a minute of one tenant, of any kind."
    )
    address_requests_per_minute: int = Field(
        1_200, ge=0, le=10_000_000, description="Requests a minute of one address that need no key."
    )
    address_failures_per_minute: int = Field(
        30, ge=0, le=10_000_000, description="Requests a minute of one address whose key or token opens nothing."
    )
    max_streams: int = Field(2_000, ge=1, le=100_000, description="Streams at the same time; tenants share them.")
    key_max_streams: int = Field(
        1_000, ge=0, le=100_000, description="Streams of one key or user at the same time; 0 is any number."
    )
    max_connections: int = Field(4_096, ge=1, le=100_000, description="Connections at the same time.")
    address_max_connections: int = Field(
        2_048, ge=0, le=100_000, description="Connections of one address at the same time; 0 is any number."
    )
    max_header_kb: int = Field(32, ge=4, le=1_024, description="Largest head of a request: its line and headers.")
    header_timeout_s: float = Field(15, gt=0, le=3_600, description="Time that a request's head may take to arrive.")
    body_timeout_s: float = Field(60, gt=0, le=3_600, description="Time that a request's body may take to arrive.")
    body_min_kb_s: float = Field(
        1, ge=0, le=1_048_576, description="Least pace of a body after its first five seconds; 0 is any pace."
    )
    idle_timeout_s: float = Field(
        30, gt=0, le=3_600, description="Time that a connection may be open between two requests."
    )
    send_timeout_s: float = Field(
        30, gt=0, le=3_600, description="Time for which an answer waits for a client that does not take it."
    )
    webhook_http: bool = Field(default=False, description="Let webhooks lead to plain http, not to https alone.")
    webhook_ports: str = Field(
        "443,8443",
        pattern=r"^(any|[0-9]{1,5}( *, *[0-9]{1,5})*)$",
        description="Ports that webhooks may lead to, separated by commas, or `any`.",
    )
    webhook_networks: str = Field(
        "",
        description="Networks, other than public ones, that webhooks may lead to, as 10.1.0.0/16, separated by commas.",
    )

    ws_ping_s: float = Field(20, gt=0, le=3_600, description="Interval of the server's WebSocket pings.")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="Least level that is logged.")
    min_free_mb: int = Field(
        256, ge=0, le=1_048_576, description="Free disk space where the data is below which `/readyz` says no."
    )
    loop_stall_s: float = Field(
        5.0, ge=0.1, le=3_600, description="Seconds for which the event loop may do nothing before that is reported."
    )
    metrics_public: bool = Field(
        default=False, description="Let everybody who reaches the port read `GET /metrics`, with or without a key."
    )
    metrics_tenant_label: bool = Field(
        default=False, description="Count runs by tenant too: the first hundred by name, all others together."
    )
    otel_endpoint: str | None = Field(
        None,
        pattern=r"^https?://\S+$",
        description="Collector that takes traces as OTLP over HTTP, such as http://127.0.0.1:4318; none without it.",
    )
    otel_ratio: float = Field(
        1.0, ge=0, le=1, description="Part of the traces that begin here which is recorded; others say it themselves."
    )
    log_format: str = Field(
        "auto",
        pattern="^(auto|json|console)$",
        description="`json` lines, `console` for people, or `auto`: for people where it is a terminal.",
    )

    @field_validator("webhook_networks")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        for part in text.split(","):
            if part.strip():
                ip_network(part.strip())
        return text

    @property
    def listens_on_loopback(self) -> bool:
        """Whether nothing but this machine can reach the server; of names, only one is known to mean that."""
        try:
            return self.host == "localhost" or ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def oidc_scopes(self) -> tuple[tuple[str, str], ...]:
        """What scopes of tokens let do: pairs of theirs and ours."""
        pairs = (pair.strip().partition("=") for pair in self.oidc_scope_map.split(","))
        return tuple((theirs, ours) for theirs, _, ours in pairs)

    @property
    def further_runtimes(self) -> tuple[str, ...]:
        """The OCI runtimes that a graph may choose besides the deployment's own, each once."""
        names = (name.strip() for name in self.runtimes.split(","))
        return tuple(dict.fromkeys(name for name in names if name))


@dataclass(frozen=True, slots=True)
class WrongSetting:
    """A setting whose value cannot be.

    Attributes:
        name: Of the setting.
        value: As it was given, safe to be shown.
        message: What is wrong with it.
    """

    name: str
    value: str
    message: str


def read_settings(**overrides: object) -> tuple[Settings, tuple[WrongSetting, ...]]:
    """Read the environment, lay ``overrides`` (options of the command line) over it, and say all that is wrong.

    Returns:
        The settings, and what is wrong: those have their defaults.
    """
    try:
        return Settings(**overrides), ()  # type: ignore[arg-type]
    except ValidationError as invalid:
        found = invalid.errors()
    wrong = [
        WrongSetting(str(each["loc"][0]), shown_value(str(each["loc"][0]), each["input"]), each["msg"])
        for each in found
        if each["loc"]
    ]
    fields = Settings.model_fields
    defaults = {
        each.name: fields[each.name].get_default(call_default_factory=True) for each in wrong if each.name in fields
    }
    unknown = {each.name for each in wrong if each.name not in fields}
    kept = {name: value for name, value in overrides.items() if name not in unknown}
    return Settings(**{**kept, **defaults}), tuple(wrong)


def load_settings(**overrides: object) -> Settings:
    """Read the environment and lay ``overrides`` (options of the command line) over it.

    Raises:
        ConfigurationError: Names every setting that is wrong, at once.
    """
    settings, wrong = read_settings(**overrides)
    if wrong:
        raise ConfigurationError.of([f"{each.name} = {each.value}: {each.message}." for each in wrong])
    return settings


def shown_value(name: str, value: object) -> str:
    """Return a setting's value as it may be shown and logged: without passwords."""
    if _SECRET.search(name):
        return "(not shown)"
    text = f"{value}"
    return _USER_INFO.sub("://…@", text.partition("?")[0] if "://" in text else text)


def unknown_variables(environment: Mapping[str, str] | None = None) -> list[str]:
    """Return the variables that look like settings and are none: somebody mistyped them, perhaps."""
    known = {f"{_PREFIX}{name}".upper() for name in Settings.model_fields} | _OF_OTHERS
    names = os.environ if environment is None else environment
    return sorted(name for name in names if name.upper().startswith(_PREFIX) and name.upper() not in known)
