"""The program: `codexgate`, also as `python -m codexgate`.

Answers `--version` before anything is imported, since scripts and editors ask for it often. How
a command ends is `cli.main`'s; here is only what can happen before and after it, and what holds
for the standard streams whichever command it is.
"""

import errno
import io
import os
import sys

TYPE_CHECKING = False  # `typing` itself is half of what `--version` would import
if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


def main() -> None:
    """Run the command line; its exit code is the process's."""
    _fill_closed()
    if os.name == "posix":
        sys.stderr = _text(_Patient(2, "w", closefd=False))
    try:
        try:
            sys.exit(_run())
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # whoever read has left
        _give_up_output()
    except OSError as error:
        if error.errno not in _UNWRITABLE or error.filename is not None:
            raise
        sys.stderr.write(f"codexgate: The output cannot be written: {error.strerror}.\n")
        _give_up_output()
    except KeyboardInterrupt:
        sys.exit(130)


def _run() -> int:
    if sys.argv[1:] == ["--version"]:
        from . import __version__

        sys.stdout.write(f"codexgate {__version__}\n")
        return 0
    from .cli.main import run

    return run()


def _fill_closed() -> None:
    """Open something in the place of each standard stream that is closed.

    The next file opened would take the place, and get what is meant for the stream. Nothing can be
    written to what stands for output, so that who closed it hears of what was lost.
    """
    for number, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, mode), True)
    if sys.stdout is None:
        sys.stdout = _text(io.FileIO(1, "w", closefd=False))
    if sys.stderr is None:
        sys.stderr = _text(io.FileIO(2, "w", closefd=False))


class _Patient(io.FileIO):
    """Standard error: that nobody can be told, as on a full disk, is no reason to stop."""

    def write(self, data: "ReadableBuffer", /) -> int:
        """All of `data`, or as much of it as there is room for."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def _text(raw: io.FileIO) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "backslashreplace", line_buffering=True)


def _give_up_output() -> None:
    """End with 1; at the exit Python would try once more to write what is left."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)


if __name__ == "__main__":
    main()
