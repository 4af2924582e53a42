"""How far tests look that could look for ever: see `effort`."""

from effort import IS_LONG, examples, part_of

__all__ = ["IS_LONG", "examples", "part_of"]
