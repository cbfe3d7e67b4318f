"""Processes that tests start have the folder STARTUP in their path: Python runs the sitecustomize in it first."""

from pathlib import Path

STARTUP = str(Path(__file__).parent)
