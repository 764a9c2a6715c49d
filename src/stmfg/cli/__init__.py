"""The command line: what each command takes, and the exit status it ends with."""

from stmfg.cli._main import command, main

__all__ = ["command", "main"]
