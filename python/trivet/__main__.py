"""`python -m trivet …`: becomes the `trivet` program that was installed with this Python."""

import os
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import NoReturn


def program() -> str | None:
    """The binary: beside this Python, in the user's scripts folder, built in this checkout, or in PATH."""
    folders = [sysconfig.get_path("scripts"), sysconfig.get_path("scripts", f"{os.name}_user")]
    folders.append(str(Path(__file__).parents[2] / "target" / "release"))
    for folder in folders:
        candidate = Path(folder, "trivet")
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return str(candidate)
    return shutil.which("trivet")


def main() -> NoReturn:
    binary = program()
    if binary is None:
        sys.exit("the `trivet` program is not installed\nhint: `pip install --force-reinstall trivet`")
    if sys.prefix != sys.base_prefix:
        # The application is meant to run on the Python that was named, activated or not.
        os.environ["VIRTUAL_ENV"] = sys.prefix
    os.execv(binary, [binary, *sys.argv[1:]])


if __name__ == "__main__":
    main()
