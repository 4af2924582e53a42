"""The project's own tools: setup and what it is made of."""
