"""The command line: `geoloc COMMAND`, and what becomes of its errors."""

import atexit
import errno
import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import NoReturn

import typer

from geoloc.atomic import DISK_FULL
from geoloc.errors import GeolocError

HELP = """Say where on the map a street view was taken.

Imagery becomes a gallery of tiles (`geoloc index build`), a street view is matched against it
(`geoloc query`, `geoloc ui`). Begin with `geoloc demo`.
"""

INTERRUPTED = "Interrupted; run the same command again to go on, a training run with --resume."

COMMANDS = {
    "demo": ("ui.serve", "demo", "The whole job on the sample town: gallery, queries, map page."),
    "doctor": ("ui.doctor", "doctor", "What is installed, what would be slow or broken, and the remedy."),
    "synth": ("ui.synth", "synth", "Make synthetic towns: pairs, orthophotos, street views."),
    "train": ("ui.train", "train", "Train twin encoders on a dataset of pairs."),
    "adapt": ("ui.adapt", "adapt", "Bring a model to a new region, from photos, imagery or pairs of it."),
    "pretrain": ("ui.pretrain", "pretrain", "Train one view's encoder on images without labels."),
    "evaluate": ("ui.evaluate", "evaluate", "Score a model: recall@k, metres, headings, certainty."),
    "compare": ("ui.compare", "compare", "Put evaluations side by side, and say whether they differ."),
    "calibrate": ("ui.calibrate", "calibrate", "Fit how sure a model may be, on towns it has not seen."),
    "models": ("ui.models", "models_app", "Bring in models that others trained."),
    "index": ("ui.index", "index_app", "Build and look after galleries of satellite tiles."),
    "query": ("ui.query", "query", "Say where photos were taken."),
    "ui": ("ui.serve", "ui", "Serve the map page of a gallery."),
}


def command_line(words: Sequence[str]) -> typer.Typer:
    """The application; only the command that `words` name is imported, so that help is quick."""
    app = typer.Typer(
        help=HELP, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, name="geoloc"
    )
    chosen = next((word for word in words if not word.startswith("-")), None)
    for name, (module, attribute, summary) in COMMANDS.items():
        if name != chosen:
            app.command(name, help=summary)(_not_chosen)
        elif isinstance(command := getattr(import_module(module), attribute), typer.Typer):
            app.add_typer(command, name=name, help=summary)
        else:
            app.command(name)(command)
    return app


def _not_chosen() -> None:
    raise AssertionError("a command that was not chosen cannot run")


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 a check failed, 2 the user's error, 130 interrupted."""
    words = sys.argv[1:] if words is None else words
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name may be no text in any encoding
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        command_line(words)(list(words), prog_name="geoloc")
    except GeolocError as error:
        _fail(str(error), 2)
    except OSError as error:
        if error.errno == errno.EPIPE:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        if error.errno in DISK_FULL:
            _fail("The disk is full; free some space and run again, what was finished is kept.", 2)
        if error.filename is None:
            raise
        _fail(f"{error.filename}: {error.strerror}; check the path, and that you may use it.", 2)
    except MemoryError:
        _fail("There is too little memory for that; ask for less, or use a larger machine.", 2)
    except KeyboardInterrupt:
        _fail(INTERRUPTED, 130)
    except SystemExit as end:
        if isinstance(end.__context__ and end.__context__.__cause__, KeyboardInterrupt):
            _fail(INTERRUPTED, 130)  # typer took it, and says nothing
        raise


def run() -> NoReturn:
    """`main` as a program of its own.

    Once everything is written it ends without unloading libraries: a thread that one of them left behind
    aborts the process then, now and then, and a good answer had the exit code 134.
    """
    code: str | int | None = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code if isinstance(code, int) else bool(code))


def complain(message: str) -> None:
    """Say on standard error what is wrong."""
    print(f"geoloc: {harmless(message)}", file=sys.stderr)


def harmless(text: str) -> str:
    """Text with what a terminal would obey shown as escapes."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def _fail(message: str, code: int) -> NoReturn:
    complain(message)
    sys.exit(code)


if __name__ == "__main__":
    run()
