"""`python -m rljax`: the command line."""

import sys

from rljax.commands import main

if __name__ == "__main__":
    sys.exit(main())
