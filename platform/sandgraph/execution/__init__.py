"""Runs graphs: the dispatcher decides, the worker runs attempts."""
