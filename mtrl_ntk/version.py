"""The version of the package, and where it is installed."""

from pathlib import Path

__version__ = "0.2.0"
PACKAGE_FOLDER = Path(__file__).parent
