"""Tiny recursive control: systems, teachers, data, networks and training; the course on top."""

__version__ = "0.4.0"
