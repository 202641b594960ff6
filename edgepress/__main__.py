"""The command `edgepress`, and `python -m edgepress` for launchers that start a module."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; Ctrl-C during its imports, which take seconds on a small board, prints no traceback."""
    try:
        from edgepress.cli.main import main as run
    except KeyboardInterrupt:
        from edgepress.cli.interrupted import tell_interrupted

        sys.exit(tell_interrupted())
    run()


if __name__ == "__main__":
    main()
