"""Help that fits on a screen, and what the parser says of a command line that it does not understand."""

import difflib
import re
import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from metta_hub.errors import UsageError

#: What typer's parser raises: its own copy of click, which nobody imports. A bad parameter is the one that it exports.
ParserError: type[Exception] = typer.BadParameter.__mro__[2]
_TOO_MUCH = re.compile(r"unexpected extra argument\S* \((.*)\)")


class Command(TyperCommand):
    """A command whose usage line reads as in the documentation: `metta-hub pull [OPTIONS] REF [DIR]`."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:  # noqa: ANN401  (typer's own click)
        """The options, then each argument by its name."""
        del ctx
        named = [(argument_name(param), param.required) for param in self.params if is_argument(param)]
        return ["[OPTIONS]", *(name if required else f"[{name}]" for name, required in named)]


class Group(TyperGroup):
    """All commands on one screen, each under the heading that it was given, in the order in which they were added."""

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401  (typer's own click)
        """Write usage, purpose, commands, examples and grammar, options."""
        self.format_usage(ctx, formatter)
        formatter.write_text(self.help)
        formatter.write_paragraph()
        formatter.write_dl(self._rows())
        formatter.write_paragraph()
        formatter.write_text(self.epilog)
        params = [param for param in self.get_params(ctx) if not is_argument(param)]
        options = ", ".join(name for param in params for name in sorted(param.opts, key=len))
        formatter.write_text(f"Options: {options}")
        formatter.write_text("Every command has --help; most have --json and --quiet.")

    def _rows(self) -> list[tuple[str, str]]:
        """A row a command; the heading stands before the first of its own."""
        shown: dict[str, list[tuple[str, Any]]] = {}
        for name, command in self.commands.items():
            if not command.hidden:
                shown.setdefault(str(getattr(command, "rich_help_panel", "")), []).append((name, command))
        width, column = max(map(len, shown)) + 1, max(map(len, self.commands))
        rows = []
        for heading, commands in shown.items():
            for place, (name, command) in enumerate(commands):
                before = "" if place else f"{heading}:"
                rows.append((f"{before:<{width}} {name:<{column}}", command.get_short_help_str(100)))
        return rows

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401  (typer's own click)
        """Find the command.

        Raises:
            UsageError: there is none of that name; names the nearest.
        """
        name = args[0]
        if name in self.commands or name.startswith("-"):
            return super().resolve_command(ctx, args)
        near = difflib.get_close_matches(
            name, [key for key, command in self.commands.items() if not command.hidden], n=1
        )
        hint = f"did you mean '{ctx.command_path} {near[0]}'?" if near else f"'{ctx.command_path} --help' lists them"
        raise UsageError(f"There is no command '{name}'.", hint=hint)


def in_words(error: Any) -> UsageError:  # noqa: ANN401  (typer's own click)
    """What the parser found wrong, as an error of ours."""
    context = error.ctx
    path = context.command_path if context else " ".join(["metta-hub", *sys.argv[1:2]])
    more = f"'{path} --help' lists what it takes"
    option = getattr(error, "option_name", None)
    if option is not None and hasattr(error, "possibilities"):
        near = difflib.get_close_matches(option, _options(context), n=1, cutoff=0.7)
        hint = f"did you mean {near[0]}? {more}" if near else more
        return UsageError(f"'{path}' has no option '{option}'.", hint=hint)
    parameter = getattr(error, "param", None)
    if parameter is not None and is_argument(parameter) and type(error).__name__ == "MissingParameter":
        return UsageError(f"'{path}' needs {argument_name(parameter)}.", hint=_usage(context))
    if context and (found := _TOO_MUCH.search(error.format_message())):
        return UsageError(f"'{path}' does not know what to do with '{found[1]}'.", hint=_usage(context))
    sentence = " ".join(str(error.format_message()).split()).rstrip(".")
    return UsageError(f"{sentence}.", hint=more)


def _usage(context: Any) -> str:  # noqa: ANN401  (typer's own click)
    return " ".join(f"usage: {context.get_usage().partition(':')[2]}".split())


def is_argument(parameter: Any) -> bool:  # noqa: ANN401  (typer's own click)
    """Whether a parameter is known by its place, not by a name."""
    return bool(parameter.param_type_name == "argument")


def argument_name(parameter: Any) -> str:  # noqa: ANN401  (typer's own click)
    """What an argument is called in help and errors."""
    return str(parameter.metavar or parameter.name)


def _options(context: Any) -> list[str]:  # noqa: ANN401  (typer's own click)
    params = context.command.get_params(context) if context else []
    return [name for param in params if not is_argument(param) for name in (*param.opts, *param.secondary_opts)]
