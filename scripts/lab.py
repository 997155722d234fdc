#!/usr/bin/env python
"""`rljax lab`, from a checkout."""

import sys

from rljax import commands

if __name__ == "__main__":
    sys.exit(commands.main("lab"))
