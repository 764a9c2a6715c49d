"""The command line: one file a command; it parses arguments and nothing else."""

from stmfg.cli._main import main

__all__ = ["main"]
