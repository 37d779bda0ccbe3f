"""Grids of notebook runs, here or on a cluster."""
