"""The platform inside a Python program: graphs of live functions, and the engine that runs them."""
