"""What Alembic runs: the revisions that lack, in the transaction of the connection that it was given."""

from __future__ import annotations

from alembic import context

from sandgraph.store.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, transactional_ddl=True)
context.run_migrations()
