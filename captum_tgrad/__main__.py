"""``python -m captum_tgrad``: the command ``captum-tgrad``."""

import os
import sys


def _without_working_folder() -> None:
    """Removes the working folder, which ``python -m`` puts first, from ``sys.path``.

    Otherwise, a file in it with the name of a library would be imported instead of the library.
    """
    if not getattr(sys.flags, "safe_path", False) and sys.path[:1] in ([""], [os.getcwd()]):
        del sys.path[0]


if __name__ == "__main__":
    _without_working_folder()
    from captum_tgrad.cli.main import main

    sys.exit(main())
