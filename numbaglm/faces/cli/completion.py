"""`numbaglm completion`: the script by which a shell completes commands, options and paths; click makes it."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from numbaglm.faces.shell import Terminal, examples, habits

VARIABLE = "_NUMBAGLM_COMPLETE"
"""What the script sets when it asks for completions."""


@click.command(
    epilog=examples(
        "source <(numbaglm completion bash)            # bash: a line for ~/.bashrc",
        "source <(numbaglm completion zsh)             # zsh: a line for ~/.zshrc",
        "numbaglm completion fish | source             # fish: a line for config.fish",
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@habits
def completion(terminal: Terminal, shell: str) -> None:
    """Print the script that makes a shell complete what is typed."""
    root = click.get_current_context().find_root()
    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(root.command, {}, str(root.info_name), VARIABLE).source()
    terminal.outcome({"shell": shell, "script": script}, script)
