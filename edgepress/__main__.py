"""`python -m edgepress`, for launchers that start a module."""

from edgepress.cli import main

main()
