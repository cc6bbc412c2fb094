"""What all command lines share: one-line errors, exit codes, progress on stderr only on a terminal.

Exit codes: 0 ok, 1 an input failed, 2 wrong usage, 130 interrupted, 143 terminated, 129 hung up.  Data goes to stdout,
everything else to stderr.  Importing this takes a tenth of a second and no torch.
"""

from __future__ import annotations

import difflib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager

import typer

from stylegan2.errors import WplusError

INTERRUPTED, TERMINATED, HUNG_UP = 130, 143, 129


def app(help: str) -> typer.Typer:
    """A Typer application with the project's manners: plain help, no shell-completion options."""
    return typer.Typer(
        help=help,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


def plain(main: Callable[[], None]) -> None:
    """Run a developer's command, whose main parses its own arguments: errors of ours become one line and a code."""
    try:
        main()
    except WplusError as error:
        sys.exit(fail(str(error), error.exit_code))


def run(application: typer.Typer, prog: str, args: Sequence[str] | None = None) -> None:
    """Run a command line and exit: every error a person can cause becomes one line on stderr."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # so that unfinished files are swept up
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # not under nohup
            signal.signal(signal.SIGHUP, lambda *_: sys.exit(HUNG_UP))
    try:
        code = typer.main.get_command(application).main(args=args, prog_name=prog, standalone_mode=False)
        if code == INTERRUPTED:  # what Typer makes of Ctrl-C
            fail("Interrupted; nothing half-written was left behind.", code)
    except WplusError as error:
        code = fail(str(error), error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except MemoryError:
        code = fail("There is not enough memory for this: use a smaller picture, or close other programs.", 1)
    except Exception as error:
        if type(error).__name__ == "Abort":
            code = fail("Stopped.", 1)
        elif hasattr(error, "format_message") and hasattr(error, "exit_code"):  # the parser's own usage errors
            hint = f" See `{prog} --help`." if error.exit_code == 2 else ""
            code = fail(_sentence(error.format_message()) + hint, error.exit_code)
        elif isinstance(error, OSError) and error.filename is not None:  # no permission even to look, name too long
            code = fail(f"{error.filename}: {error.strerror or error}.", 1)
        else:
            raise
    sys.exit(code if isinstance(code, int) else 0)


def fail(sentence: str, code: int) -> int:
    """Print one line to stderr and return the exit code."""
    if code == INTERRUPTED and sys.stderr.isatty():
        print(file=sys.stderr)  # leave the line that shows ^C
    print("error: " + " ".join(sentence.split()), file=sys.stderr)
    return code


def _sentence(text: str) -> str:
    return text if text.rstrip().endswith((".", "?", "!")) else text.rstrip() + "."


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The known names that look most like `name`, the likeliest first."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), by_lower, count, cutoff=0.5)
    return [by_lower[match] for match in close]


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The sentence for a name that does not exist, with the nearest that does."""
    close = nearest(name, known)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are: {', '.join(sorted(known))}."
    return f"There are no {kind} called '{name}': {hint}"


@contextmanager
def byte_bars():
    """Yields progress(what, bytes done, bytes in all): a bar for each `what`; nothing off a terminal."""
    columns = ("label", "bar", "bytes")
    with _bars(columns) as bars:
        yield _updater(bars)


@contextmanager
def step_bar(label: str):
    """Yields progress(done, total, text=''): one bar with a note after it; nothing off a terminal."""
    with _bars(("label", "bar", "count", "note", "left")) as bars:
        update = _updater(bars)
        yield lambda done, total, text="": update(label, done, total, text)


def _updater(bars) -> Callable[..., None]:
    tasks: dict[str, int] = {}

    def progress(what: str, done: int, total: int, text: str = "") -> None:
        if bars is None:
            return
        if what not in tasks:
            tasks[what] = bars.add_task(what, total=total, note=text)
        bars.update(tasks[what], completed=done, total=total, note=text)

    return progress


@contextmanager
def _bars(columns: Sequence[str]):
    if not sys.stderr.isatty():
        yield None
        return
    from rich import progress as rich_progress
    from rich.console import Console

    makers = {
        "label": lambda: rich_progress.TextColumn("{task.description}"),
        "bar": rich_progress.BarColumn,
        "bytes": rich_progress.DownloadColumn,
        "count": rich_progress.MofNCompleteColumn,
        "left": rich_progress.TimeRemainingColumn,
        "note": lambda: rich_progress.TextColumn("{task.fields[note]}"),
    }
    with rich_progress.Progress(*(makers[name]() for name in columns), console=Console(stderr=True)) as bars:
        yield bars
