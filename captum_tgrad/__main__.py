"""``python -m captum_tgrad``: the command ``captum-tgrad``."""

import os
import sys


def _without_working_folder() -> None:
    """Takes away what ``python -m`` has put first: the working folder, which may hold anything.

    A file there that is called like a library would be imported in its place. What PYTHONPATH
    names stays, and so does the folder that this package itself was found in.
    """
    if not getattr(sys.flags, "safe_path", False) and sys.path[:1] in ([""], [os.getcwd()]):
        del sys.path[0]


if __name__ == "__main__":
    _without_working_folder()
    from captum_tgrad.cli.main import main

    sys.exit(main())
