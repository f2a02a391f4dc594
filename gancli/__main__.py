"""python -m gancli: the command `gan`."""

import sys

from gancli.cli import main

sys.exit(main())
