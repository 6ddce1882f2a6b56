"""Trivet: web server and application server for Python. The program itself is `trivet run module:app`."""

__all__ = ["__version__"]

__version__ = "0.1.0"
