"""``python -m stmfg`` is the ``stmfg`` command."""

import sys

from stmfg.cli import command

sys.exit(command())
