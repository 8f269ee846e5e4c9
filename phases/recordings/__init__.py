"""Bytes of a file -> clips -> clip store: one module a kind of file, units and axes, what phase 0 writes. No torch."""
