"""`python -m edgepress`, for launchers that start a module."""

from edgepress.cli.main import main

main()
