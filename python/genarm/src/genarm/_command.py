"""The command ``genarm``: runs the program that the wheel brings."""

import os
import sys
from pathlib import Path


def main() -> None:
    """Becomes the program. On Windows, which cannot do that, it waits for it and ends with its exit code."""
    name = "genarm.exe" if sys.platform == "win32" else "genarm"
    program = Path(__file__).parent / "bin" / name
    if not program.is_file():
        sys.exit("error: this package was installed from its sources, which bring no program; install a wheel, or genarm itself")
    arguments = [str(program), *sys.argv[1:]]
    if sys.platform == "win32":
        import subprocess

        sys.exit(subprocess.call(arguments))
    os.execv(program, arguments)
