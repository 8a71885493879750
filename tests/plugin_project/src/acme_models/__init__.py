"""Acme's own strategies; each module is one."""
