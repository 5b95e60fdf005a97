"""The frame that all commands share: flags in, a clear paragraph and an exit status out."""

from __future__ import annotations

import atexit
import dataclasses
import logging as standard_logging
import os
import select
import sys
import traceback
from collections.abc import Callable

from absl import app, flags, logging

from tfrecord_tools.config import Config, setting
from tfrecord_tools.config_flags import define_flags
from tfrecord_tools.flagfiles import expand_flagfiles
from tfrecord_tools.storage import FULL_ERRNOS

_CLOSED_PIPE_STATUS = 141  # what shells give a program that SIGPIPE ends


@dataclasses.dataclass(frozen=True, kw_only=True)
class WritingSettings(Config):
    """Settings of the commands that write a set of many clips."""

    workers: int = setting(
        0, "Processes; changes the speed, never the result. 0: one a core.", minimum=0
    )
    overwrite: bool = setting(
        False,
        "Replace what stands in --out. Default: keep it if it was made with the same settings, "
        "else "
        "an error.",
    )


def run_command(
    main: Callable[[list[str]], int | None],
    *settings: type[Config],
    takes_arguments: bool = False,
    continues: bool = True,
) -> None:
    """Define the flags of the command's settings, run `main(argv)` and exit the process.

    A `ValueError` or `OSError` that leaves `main` is a user's input at fault: it is printed as one
    paragraph, without a traceback, and the exit status is 1. `--verbosity=1` shows the traceback as
    well. So is a flag that is unknown or has a value that is not allowed. Ctrl-C exits with status
    130; a reader of the output that has enough, as `head` has, ends the command quietly.

    Args:
        main: gets the arguments beside flags, the command's name first; returns the exit status or
            None.
        *settings: the classes whose settings are the command's flags.
        takes_arguments: there may be arguments beside flags.
        continues: the same command goes on where it was stopped.
    """

    def guarded(argv: list[str]) -> int | None:
        _show_progress()
        try:
            if len(argv) > 1 and not takes_arguments:
                raise ValueError(
                    f"unexpected argument {argv[1]!r}: options look like --name=value (see --help)"
                )
            status = main(argv)
            sys.stdout.flush()
            return status
        except KeyboardInterrupt:
            hint = ": the same command continues where it stopped" if continues else ""
            print(f"\ninterrupted{hint}", file=sys.stderr)
            return 130
        except (ValueError, OSError) as error:
            if isinstance(error, BrokenPipeError) and _is_reader_gone():
                return _CLOSED_PIPE_STATUS
            if logging.get_verbosity() >= logging.DEBUG:
                traceback.print_exc()
            print(f"error: {describe_error(error)}", file=sys.stderr)
            return 1

    define_flags(*settings)
    script = sys.modules["__main__"]
    if not script.__doc__:  # an installed command's: --help shows it
        script.__doc__ = sys.modules[main.__module__].__doc__
    try:
        app.run(guarded, flags_parser=_parse_flags)
    except SystemExit as stopped:
        if "tensorflow_io" in sys.modules:
            _exit_at_once(1 if isinstance(stopped.code, str) else stopped.code)
        raise


def _parse_flags(argv: list[str]) -> list[str]:
    """Parse the flags and return the other arguments; exit with one line where a flag is wrong."""
    try:
        return flags.FLAGS([argv[0], *expand_flagfiles(argv[1:])])
    except (flags.Error, ValueError, OSError) as error:
        print(f"error: {describe_error(error)} (see --help)", file=sys.stderr)
        sys.exit(1)


def _is_reader_gone() -> bool:
    """Return whether nobody reads the output any more, which then goes nowhere."""
    poll = select.poll()
    poll.register(sys.stdout.fileno())
    if not any(state & (select.POLLERR | select.POLLHUP) for _, state in poll.poll(0)):
        return False
    # What is left to be written would be an error once more when Python ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _exit_at_once(code: int | None) -> None:
    """Ends the process without C++ destructors: those of TensorFlow I/O's S3 client may abort it
    after the work.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


def _show_progress() -> None:
    """Shows log lines from INFO on, with the time alone before them, unless `--verbosity` says
    otherwise.
    """
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.INFO)
    standard_logging.getLogger("tensorflow").setLevel(standard_logging.WARNING)
    logging.get_absl_handler().setFormatter(
        standard_logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S")
    )


def describe_error(error: Exception) -> str:
    """One readable paragraph for an exception: its message, and for an operating system error its
    path.
    """
    if isinstance(error, OSError) and error.strerror:
        hint = "; make room, and the same command continues" if error.errno in FULL_ERRNOS else ""
        return (f"{error.filename}: {error.strerror}" if error.filename else error.strerror) + hint
    return str(error) or type(error).__name__
