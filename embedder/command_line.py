"""What the three commands share: options, usage errors, help, results and exit codes.

Cyclopts parses the arguments by the signatures of the command functions. Its own help pages and
error panels need rich, whose import takes longer than a whole ``--help`` may: both are written
here, as plain text. Nothing heavy is imported before a command has been parsed.
"""

import inspect
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args

from cyclopts import App, CoercionError, CycloptsError, Parameter, Token, ValidationError
from cyclopts.argument import Argument, ArgumentCollection
from cyclopts.validators import Number

from embedder.errors import CairnError
from embedder.runtimes.reporting import report_nothing
from embedder.runtimes.threads import wait_passively
from embedder.version import VERSION

BAD_USAGE = 2
INTERRUPTED = 130
UNREAD = 141
"""Exit code of a command whose output nobody reads: 128 plus the number of SIGPIPE."""

RESUMABLE = "; the same command goes on from here"

Folder = Annotated[Path, Parameter(metavar="DIR")]
Shell = Literal["bash", "zsh", "fish", "powershell"]
LayoutName = Literal["gldv2", "folders", "shards"]
Count = Annotated[int, Parameter(validator=Number(gte=0), metavar="N")]
PositiveCount = Annotated[int, Parameter(validator=Number(gte=1), metavar="N")]
Share = Annotated[float, Parameter(validator=Number(gte=0, lte=1), metavar="SHARE")]

_METAVARS = {int: "N", float: "X", Path: "FILE"}
_LEFT_COLUMN = 26


@dataclass(frozen=True)
class Check:
    """Checks all values before cyclopts does, which would report the first fault only.

    Attributes:
        prefix: What environment variables begin with that stand for flags that are not given;
            without it, none do.
    """

    prefix: str = ""

    def __call__(self, app: App, command: tuple[str, ...], arguments: ArgumentCollection) -> None:
        """Add the values of the environment, and raise ``CycloptsError`` for all faults."""
        faults = []
        for argument in arguments:
            where = argument.name
            if self.prefix:
                variable = self.prefix + argument.name.lstrip("-").replace("-", "_").upper()
                where = f"{where} ({variable})"
                if not argument.has_tokens and variable in os.environ:
                    argument.append(Token(value=os.environ[variable], source="env"))
            if argument.show and (fault := _find_fault(argument)):
                faults.append(f"{where}: {fault}")
        if faults:
            raise CycloptsError("\n".join(faults))


def _find_fault(argument: Argument) -> str | None:
    """Say what is wrong with an argument; a refused text may be secret and is not repeated."""
    if not argument.has_tokens:
        return "is required" if argument.required else None
    try:
        value = argument.convert()
    except CoercionError as error:
        if error.msg:
            return str(error.msg)
        choices = ", ".join(argument.get_choices(force=True) or ())
        found = error.token.value if error.token else ""
        return f"must be {f'one of {choices}' if choices else 'a number'}, not {found!r}"
    try:
        argument.validate(value)  # type: ignore[no-untyped-call] # cyclopts leaves it untyped
    except ValidationError as error:
        words = error.exception_message[:1].lower() + error.exception_message[1:]
        return f"{words.rstrip('.')}, not {value}" if isinstance(value, int | float) else words
    return None


def command_app(name: str, summary: str, *, env_prefix: str = "", epilogue: str = "") -> App:
    """Make the application of a command, to register functions with.

    A flag has no ``--no-`` form; of an option given twice, the last value counts.

    Args:
        name: Of the command.
        summary: First line of its help.
        env_prefix: What environment variables begin with that stand for flags, if any do.
        epilogue: Last paragraph of its help.
    """
    app = App(
        name=name,
        help=summary,
        help_epilogue=epilogue,
        version_flags=(),
        default_parameter=Parameter(negative=(), allow_repeating=True),
        config=Check(env_prefix),
    )

    @app.command(name="--install-completion", config=Check())
    def install_completion(*, shell: Shell | None = None, output: Path | None = None) -> int:
        """Install tab completion for this command.

        Args:
            shell: Which shell it is for (default: the one that this runs in).
            output: Where to write the script (default: where the shell looks for it).
        """
        from cyclopts.completion.detect import ShellDetectionError

        try:
            written = app.install_completion(shell=shell, output=output)
        except ShellDetectionError:
            _complain(f"{name}: the shell is not known; name it by --shell")
            return BAD_USAGE
        return print_line(f"{written}; open a new shell to use it")

    @app.command(name="--version", config=Check())
    def version() -> int:
        """Print the version of Cairn."""
        return print_line(VERSION)

    return app


def run(
    app: App,
    arguments: Sequence[str] | None = None,
    *,
    resume_hints: Mapping[Callable[..., object], str] = MappingProxyType({}),
    logs: bool = True,
) -> int:
    """Parse the arguments, call the command's function and print its result.

    A mapping that the function returns is printed to stdout as one line of JSON; an integer is
    an exit code. Everything else a command says goes to stderr.

    Args:
        app: The application, made by :func:`command_app`.
        arguments: Without the program's name; by default those of the process.
        resume_hints: What to say, by function, after a command was interrupted.
        logs: Set up logging to stderr.

    Returns:
        The exit code: of the error if there was one, 130 after Ctrl-C, :data:`UNREAD` if nobody
        reads the result.

    Raises:
        SystemExit: The arguments are wrong (2), or ask for help (0).
    """
    command = _parse(app, list(sys.argv[1:] if arguments is None else arguments))
    wait_passively()
    report_nothing()
    if logs:
        _log_to_stderr()
    try:
        result = command()
        if isinstance(result, Mapping):
            return print_line(json.dumps(result))
    except (CairnError, OSError) as error:
        _complain(f"{app.name[0]}: {error}")
        return getattr(error, "exit_code", 1)
    except KeyboardInterrupt:
        _complain(f"{app.name[0]}: interrupted{resume_hints.get(command.func, '')}")
        return INTERRUPTED
    return result if isinstance(result, int) else 0


def print_line(line: str) -> int:
    """Print a line to stdout and flush it.

    Args:
        line: Without its end.

    Returns:
        0, or :data:`UNREAD` if the reader has closed the pipe; later lines are then discarded.

    Raises:
        OSError: It cannot be written for another reason, like a full disk.
    """
    try:
        print(line, flush=True)  # noqa: T201 (a command's result)
    except OSError as error:
        # The interpreter flushes stdout again when it ends, and would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise
        return UNREAD
    return 0


def _log_to_stderr() -> None:
    """Log from INFO on to stderr; libraries that log every step, from WARNING on."""
    import logging

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")
    for talkative in ("faiss", "onnx_ir", "onnxscript", "httpx"):
        logging.getLogger(talkative).setLevel(logging.WARNING)


def _parse(app: App, words: list[str]) -> partial[object]:
    """Return the call that the arguments ask for."""
    unused: Any = object()  # instead of a console of rich: nothing is printed to it
    try:
        command, bound, _ = app.parse_args(
            words, console=unused, error_console=unused, print_error=False, exit_on_error=False
        )
    except CycloptsError as error:
        name = " ".join((app.name[0], *(error.command_chain or ())))
        for line in str(error).splitlines():
            _complain(f"{name}: {line}")
        _complain(f"See `{name} --help`.")
        raise SystemExit(BAD_USAGE) from error
    if command == app.help_print:
        asked = bool({"--help", "-h"} & set(words))
        text = help_text(app, bound.arguments["tokens"])
        (print_line if asked else _complain)(text)
        raise SystemExit(0 if asked else BAD_USAGE)
    return partial(command, *bound.args, **bound.kwargs)


def _complain(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 (the command's own voice)


def help_text(app: App, words: Sequence[str]) -> str:
    """Write the help page of a command.

    Args:
        app: The application.
        words: The arguments without ``--help``; they name the command, and may hold more.
    """
    chain, apps, _ = app.parse_commands(words)
    command = apps[-1]
    arguments: list[Argument] = []
    if command.default_command:
        with app.app_stack(apps):
            collected = command.assemble_argument_collection(parse_docstring=True)
            shown = (argument for argument in collected if argument.show)
            arguments = sorted(shown, key=lambda argument: not argument.required)
    commands = [name for name in command if name not in command.help_flags]
    usage = [app.name[0], *chain, *(_name(argument) for argument in arguments if argument.required)]
    usage += ["[OPTIONS]"] if any(not argument.required for argument in arguments) else []
    usage += ["COMMAND ..."] if commands and not command.default_command else []
    rows = [(name, command[name].help.partition("\n")[0]) for name in sorted(commands)]
    rows += [(_name(argument), _explanation(argument)) for argument in arguments]
    rows.sort(key=lambda row: row[0].startswith("-"))  # commands and positional arguments first
    description, _, _ = command.help.partition("Args:")
    return "\n".join(_page(" ".join(usage), description, rows, command.help_epilogue or ""))


def _page(
    usage: str, description: str, rows: Sequence[tuple[str, str]], epilogue: str
) -> Iterator[str]:
    """Set a help page in the terminal's width, in two columns."""
    width = max(shutil.get_terminal_size().columns - 2, 40)
    indent = " " * _LEFT_COLUMN
    yield from textwrap.wrap(f"usage: {usage}", width, subsequent_indent="       ")
    for paragraph in inspect.cleandoc(description).strip().split("\n\n"):
        yield from ("", *textwrap.wrap(paragraph, width))
    yield ""
    for name, explanation in (*rows, ("-h, --help", "Show this page and exit.")):
        left = f"  {name}".ljust(_LEFT_COLUMN)
        if len(name) > _LEFT_COLUMN - 4:
            yield left.rstrip()
            left = indent
        yield from textwrap.wrap(left + explanation, width, subsequent_indent=indent)
    if epilogue:
        yield from ("", *textwrap.wrap(epilogue, width))


def _name(argument: Argument) -> str:
    """Name an argument, with what stands for its value."""
    if argument.is_flag():
        return ", ".join(argument.names)
    types = get_args(argument.hint) or (argument.hint,)
    kind = next((_METAVARS[kind] for kind in types if kind in _METAVARS), "TEXT")
    value = argument.parameter.metavar or "|".join(argument.get_choices() or ()) or kind
    if argument.field_info.is_positional:
        return argument.parameter.metavar or argument.name
    return f"{', '.join(argument.names)} {value}"


def _explanation(argument: Argument) -> str:
    """Return the help of an argument, with its default unless the words tell of one."""
    text = " ".join((argument.parameter.help or "").replace("``", "").split())
    default = argument.field_info.default
    if argument.required:
        return f"{text} (required)"
    if "default" in text or any(
        default is nothing for nothing in (None, False, (), inspect.Parameter.empty)
    ):
        return text
    return f"{text} (default: {default})"
