"""The version of the packages, which `setup.py` reads and every run and export records."""

__version__ = "0.1.0"
