"""The command `orderup`: one file a command. Here alone the environment is read and the parts are put together."""

import sys

from orderup.cli.app import app


def main() -> None:
    """The console script."""
    app(prog_name="orderup")
    sys.exit(0)


__all__ = ["main"]
