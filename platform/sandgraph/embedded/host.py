"""The platform that an engine has to itself: its settings, its folder, and how it is opened."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from sandgraph.api.services import Catalog, Reader, Runs
from sandgraph.errors import ConfigurationError
from sandgraph.settings import Settings, load_settings
from sandgraph_runner.protocol import Source

logger = logging.getLogger(__name__)


class Host(Protocol):
    """What an engine needs of a running platform."""

    @property
    def catalog(self) -> Catalog:
        """Takes functions, tools and graphs."""

    @property
    def runs(self) -> Runs:
        """Takes runs."""

    @property
    def store(self) -> Reader:
        """Answers for them."""


def settings_of(settings: Settings | None, options: Mapping[str, object]) -> Settings:
    """Return an engine's settings.

    Raises:
        ConfigurationError: They cannot work.
    """
    if settings is None:
        # The environment's deployment is a server's: an engine of that name would remove the server's containers.
        return load_settings(**{"deployment": "", **options})
    if options:
        raise ConfigurationError(f"Give either settings or single ones of them ({', '.join(sorted(options))}).")
    return settings


@asynccontextmanager
async def open_host(
    settings: Settings, data_dir: Path | None, live: Mapping[Source, Callable[..., Any]] | None
) -> AsyncIterator[Host]:
    """Start a platform, and close it at the end of the block.

    Args:
        settings: But for the folder.
        data_dir: Where its data is kept; without it in a folder that is removed at the end.
        live: Functions to be called in this process instead of the sources that stand for them; None for containers.

    Raises:
        ConfigurationError: The settings cannot work.
        EngineUnavailable: The Docker engine does not answer, or lacks the image or the runtime.
    """
    # Not with the module: the database's and Docker's libraries take longer to import than all the rest together, and
    # who only builds graphs, or is the server, should not wait for them.
    from sandgraph.bootstrap import open_platform  # noqa: PLC0415
    from sandgraph.sandbox.inprocess import InProcessSandboxes  # noqa: PLC0415

    async with AsyncExitStack() as stack:
        if data_dir is None:
            folder = stack.enter_context(TemporaryDirectory(prefix="sandgraph-", ignore_cleanup_errors=True))
            data_dir = Path(folder)
        own = settings.model_copy(update={"data_dir": data_dir})
        sandboxes = None if live is None else InProcessSandboxes(live)
        yield await stack.enter_async_context(open_platform(own, sandboxes=sandboxes))


@cache
def say_that_there_are_no_sandboxes() -> None:
    """Log, once, what ``sandbox="inprocess"`` means."""
    logger.warning(
        'sandbox="inprocess" runs node functions in this process, without any isolation or limits but time and output: '
        "it is for tests and trusted code.",
        extra={"action": "inprocess_engine"},
    )
