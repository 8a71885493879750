"""The functional core: what is decided, and nothing that touches the world.

Stdlib values only. No I/O, clock, environment, logging, threads or third parties; import-linter holds the wall.
"""
