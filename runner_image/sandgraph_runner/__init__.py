"""What runs inside a sandbox: supervisor, child, and what submitted code sees.

Standard library only.
"""
