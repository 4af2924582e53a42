"""Sandboxes: containers with hard limits, and the pool that keeps them warm."""
