"""The version, said once: the package shows it, and what is written to disk carries it."""

__version__ = "0.2.0"
