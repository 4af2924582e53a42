"""Persistence: SQLModel tables and the repositories over them."""
