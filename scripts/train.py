#!/usr/bin/env python
"""`rljax train`, from a checkout."""

import sys

from rljax import commands

if __name__ == "__main__":
    sys.exit(commands.main("train"))
