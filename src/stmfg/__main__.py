"""``python -m stmfg`` is the ``stmfg`` command."""

import sys

from stmfg.cli._main import main

sys.exit(main())
