"""The domain: pure code, no I/O, no clock, no threads."""
