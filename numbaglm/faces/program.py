"""The program that commands make up: one that comes from elsewhere is loaded when it is called, not when another is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


class Later(click.Command):
    """What the program's help tells of a command, in whose place it stands until that is called."""

    def __init__(self, name: str, help: str, load: Callable[[], click.Command]) -> None:
        super().__init__(name, help=help)
        self.load = load


class Program(click.Group):
    """Commands, some of them to be loaded."""

    def command_named(self, name: str) -> click.Command:
        """The command itself, loaded."""
        found = self.commands[name]
        return found.load() if isinstance(found, Later) else found

    def invoke(self, ctx: click.Context) -> Any:
        """Load and run what was called: an interrupt as it is loaded is one as it runs."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("\nInterrupted.", err=True)
            ctx.exit(130)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that words call, to run it or to complete its options."""
        name, found, rest = super().resolve_command(ctx, args)
        return name, found.load() if isinstance(found, Later) else found, rest
