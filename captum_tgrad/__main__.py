"""``python -m captum_tgrad``: the command ``captum-tgrad``."""

import sys

from captum_tgrad.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
