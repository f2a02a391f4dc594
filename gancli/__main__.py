"""python -m gancli: the command `gan`."""

import sys

from gancli.cli.main import main

sys.exit(main())
