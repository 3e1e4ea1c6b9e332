"""What people build on: the public names and the grammar of the command line, each as a text that is kept in a file.

`python -m tests.architecture.surface` writes both files anew. Do that only when the change is meant, and say so in
CHANGELOG.md.
"""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
NAMES = HERE / "names.txt"
GRAMMAR = HERE / "grammar.txt"


def public_names(module: Any) -> str:
    """One line a name: a verb with its parameters (`=` after those that may be left out), a value with its fields."""
    return "".join(f"{public_name(name, getattr(module, name))}\n" for name in sorted(module.__all__))


def public_name(name: str, thing: Any) -> str:
    """The line of one name."""
    fields = getattr(thing, "model_fields", None)
    if fields is not None:
        return f"{name}: {', '.join(field.alias or key for key, field in fields.items() if key != 'schema_number')}"
    if inspect.isfunction(thing):
        parameters = inspect.signature(thing).parameters.values()
        shown = (parameter.name + ("=" if parameter.default is not parameter.empty else "") for parameter in parameters)
        return f"{name}({', '.join(shown)})"
    return name


def grammar(command: Any) -> str:
    """One paragraph a verb: its arguments, then its options, in the order of the help."""
    return "\n".join(verb_grammar(name, verb) for name, verb in command.commands.items())


def verb_grammar(name: str, verb: Any) -> str:
    """The lines of one verb."""
    arguments = [word for word in verb.params if word.param_type_name == "argument"]
    options = [word for word in verb.params if word.param_type_name == "option"]
    first = " ".join([name, *(argument_grammar(argument) for argument in arguments)])
    return "".join([f"{first}\n", *(f"    {option_grammar(option)}\n" for option in options)])


def argument_grammar(argument: Any) -> str:
    """`NAME`, `[NAME]` where it may be left out."""
    shown = argument.metavar or argument.name.upper()
    return shown if argument.required else f"[{shown}]"


def option_grammar(option: Any) -> str:
    """`--set FIELD=VALUE ...`: spellings, value, `...` where it may be repeated, `!` where it must be given."""
    value = "" if option.is_flag else f" {option.metavar or type_name(option)}"
    return "|".join(option.opts) + value + (" ..." if option.multiple else "") + (" !" if option.required else "")


def type_name(option: Any) -> str:
    """The type of an option's value, in capitals."""
    return str(option.name).upper()


def reexported(front: Path) -> set[str]:
    """The names that type checkers see: those imported `X as X` where `TYPE_CHECKING` holds."""
    return {
        alias.name
        for node in ast.walk(ast.parse(front.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }


def command_line() -> Any:
    """The real command line."""
    import typer

    from llmops.cli.main import build

    return typer.main.get_command(build())


def main() -> None:
    """Write both files anew."""
    import llmops

    NAMES.write_text(public_names(llmops), encoding="utf-8")
    GRAMMAR.write_text(grammar(command_line()), encoding="utf-8")


if __name__ == "__main__":
    main()
