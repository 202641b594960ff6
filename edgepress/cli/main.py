"""The command line: its verbs, its errors and its exit codes. Results go to stdout, all else to stderr.

Exit codes: 0 success, 1 a gate that failed, 2 bad input or usage, 70 a fault of edgepress, 130 interrupted,
141 if the reader of the output went away before its end.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from edgepress.cli.flags import command_line
from edgepress.cli.help import VerbHelp
from edgepress.cli.interrupted import INTERRUPTED, tell_interrupted
from edgepress.multilabel.errors import DataChangedError, EngineUnavailableError, InputError
from edgepress.multilabel.manifest import MANIFEST
from edgepress.multilabel.versions import install_command

CLOSED_PIPE = 141
"""The shell's code for a program that SIGPIPE ended: neither passed nor failed."""
INTERNAL = 70
"""A fault of edgepress; not 1, which means a gate that failed."""
VERBS = (
    *("run", "compare", "tune", "teach", "distill", "finetune", "export", "quantize", "compile", "calibrate"),
    "adopt",
    *("verify", "bench", "predict", "report", "card", "demo"),
    *("inspect", "data", "shard", "answers", "students", "doctor", "sign", "verify-signature"),
)
"""Each verb is the function `verb` of the module with its name."""
# The base of typer's usage errors is click's own class or typer's copy of it, depending on the version.
_UsageError: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
_EXTRAS = {
    "torch": "train",
    "torchvision": "train",
    "timm": "train",
    "accelerate": "train",
    "safetensors": "train",
    "tensorboard": "train",
    "onnxscript": "train",
    "onnx": "quantize",
    "sympy": "quantize",
    "nncf": "quantize",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "ai_edge_litert": "litert",
    "litert_quantizer": "litert-build",
    "ncnn": "ncnn",
    "pnnx": "ncnn-build",
    "transformers": "huggingface",
    "open_clip": "clip",
    "gradio": "demo",
    "cryptography": "sign",
    "pyarrow": "parquet",
    "optuna": "tune",
    "fsspec": "s3",
}


def _print_version(asked: bool) -> None:
    if asked:
        print(f"edgepress {version('edgepress')}")
        raise typer.Exit


def command_line_of(arguments: Sequence[str]) -> typer.Typer:
    """The command line with only the module of the requested verb, none for the version alone, or else all of them."""
    app = typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        help="Distil a multi-label tagger, compile it for an edge device, and prove it there.",
    )
    app.callback()(_common)
    asked = next((argument for argument in arguments if not argument.startswith("-")), None)
    needed = () if asked is None and "--version" in arguments else VERBS
    for name in [asked] if asked in VERBS else needed:
        module = import_module(f"edgepress.cli.{name.replace('-', '_')}")
        app.command(name=name, cls=VerbHelp)(command_line(module.verb))
    return app


def _common(
    show_version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say only warnings and errors.")] = False,
) -> None:
    # Among several processes under `accelerate launch` only the first one prints.
    speaks = os.environ.get("RANK", "0") == "0"
    logging.getLogger("edgepress").setLevel(logging.INFO if speaks and not quiet else logging.WARNING)


def _own_flags(arguments: Sequence[str]) -> tuple[set[str], list[str]]:
    """The flags of every verb, wherever they are before a `--`, and the other arguments."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    own = {argument for argument in arguments[:end] if argument in ("--debug", "--quiet")}
    return own, [*(argument for argument in arguments[:end] if argument not in own), *arguments[end:]]


def _require_values(arguments: Sequence[str]) -> None:
    """Refuse an empty value, which a variable of the shell gives that is not set: as a path it is the current folder.

    Raises:
        InputError: an argument is empty; names the option before it.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    for place, (before, argument) in enumerate(itertools.pairwise(["", *arguments])):
        option, equals, value = argument.partition("=")
        if not argument or (place < end and option.startswith("--") and equals and not value):
            name = option or (f"the argument after {before}" if before else "the first argument")
            raise InputError(f"{name} is empty; expected a value: is a variable of the shell not set?")


def _closed() -> int:
    """The reader of the output has gone, as `head` does; the rest of the output is discarded."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return CLOSED_PIPE


def _open_streams() -> None:
    """Let whatever is printed be printed: a stream that the shell closed (>&-) takes all, and a terminal or log of
    another encoding than UTF-8 shows what it does not have as an escape."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 # it stays open as long as the process
        elif hasattr(stream, "reconfigure"):  # a program that calls main may have its own
            with contextlib.suppress(
                OSError
            ):  # a pipe that took the place of a file cannot be told, and stays as it is
                stream.reconfigure(errors="backslashreplace")


def main() -> None:
    """Run the command line and turn every expected error into one line and an exit code."""
    _open_streams()
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", datefmt="%H:%M:%S"))
    logging.getLogger("edgepress").addHandler(handler)
    logging.getLogger("edgepress").propagate = False
    own, given = _own_flags(sys.argv[1:])
    debug = "--debug" in own
    if not debug:
        threading.excepthook = _in_a_thread
    arguments = [*(["--quiet"] if "--quiet" in own else []), *(given or ["--help"])]
    try:
        _require_values(given)
        code = command_line_of(arguments)(args=arguments, prog_name="edgepress", standalone_mode=False)
        sys.stdout.flush()  # flushed here, where a reader that has gone away can be distinguished from a failed gate
    except SystemExit as error:  # typer turns a closed pipe into this
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        code = _closed()
    except BrokenPipeError:
        code = _closed()
    except _UsageError as error:
        _complain(f"{_misused(error)} (edgepress --help, or VERB --help, lists what there is)")
        code = 2
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except (InputError, EngineUnavailableError, DataChangedError) as error:
        if debug:
            raise
        _complain(str(error))
        code = 2
    except OSError as error:
        if debug:
            raise
        _complain(_failed(error))
        code = 2
    except Exception as error:
        lacking = _lacking(error)
        if lacking is not None and debug:
            raise
        if lacking is None:
            traceback.print_exc()
            lacking = "this is a fault of edgepress, not of what you gave it; please report it with the lines above"
            code = INTERNAL
        else:
            code = 2
        _complain(lacking)
    if code == INTERRUPTED:  # raised here, or returned by newer versions of typer
        code = tell_interrupted()
    sys.exit(code or 0)


def _lacking(error: Exception) -> str | None:
    """What this machine lacks for the command, a package or memory; None where edgepress is at fault."""
    if isinstance(error, ModuleNotFoundError):
        extra = _EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            return None
        return f"this needs {error.name}, which is not installed here ({install_command(extra)})"
    if isinstance(error, MemoryError) or (isinstance(error, ImportError) and "failed to map segment" in str(error)):
        return f"there is too little memory here ({str(error) or 'none was left'}); free some, or allow more"
    return None


def _misused(error: Any) -> str:
    """A usage error in words; of an option that is missing, its help says what it takes."""
    said, meant = error.format_message(), getattr(getattr(error, "param", None), "help", None)
    context = getattr(error, "ctx", None)
    if said.startswith("Got unexpected extra argument") and context is not None:
        options = {option for parameter in context.command.params for option in parameter.opts}
        folders = [name for name in said.rpartition("(")[2].rstrip(").").split() if Path(name).is_dir()]
        if folders and "--data" in options:
            return f"{said}; a data set is named by --data {folders[0]}"
        named = [argument for argument in sys.argv[2:] if (Path(argument) / MANIFEST).is_file()]
        if folders and named and "--teacher" in options:
            return f"{said}; the data set alone is named so, and a teacher by --teacher {named[0]}"
    if not said.startswith("Missing option") or not meant:
        return said
    return f"{said.rstrip('.')}: {meant.split('  ')[0].rstrip('.')}"


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _failed(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename is not None else ""
    if isinstance(error, FileNotFoundError) and "temporary directory" in str(error):  # of Python's tempfile
        return "no folder for temporary files can be written: TMPDIR=FOLDER names one"
    if error.errno in _FULL:  # the error of a write does not name the file, that of a copy names its source first
        where = f"{error.filename2}: " if error.filename2 is not None else where
        return f"{where}{error.strerror}: make room and start the same command again; what is finished is kept"
    return f"{where}{error.strerror}" if where else str(error)


def _in_a_thread(failure: threading.ExceptHookArgs) -> None:
    """A library's thread (TensorBoard's writer) prints no traceback over a full disk; the main thread stops."""
    if isinstance(failure.exc_value, OSError):
        _complain(_failed(failure.exc_value))
    else:
        threading.__excepthook__(failure)


def _complain(message: str) -> None:
    print(f"edgepress: {' '.join(message.split())}", file=sys.stderr)
