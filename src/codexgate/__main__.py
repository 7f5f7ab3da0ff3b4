"""The program: `codexgate`, also as `python -m codexgate`.

Answers `--version` before anything is imported, since scripts and editors ask for it often. How
a command ends is `cli.main`'s; here is only what can happen before and after it.
"""

import os
import sys


def main() -> None:
    """Run the command line; its exit code is the process's."""
    try:
        try:
            sys.exit(_run())
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # whoever read has left: at the exit Python would complain of it once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _run() -> int:
    if sys.argv[1:] == ["--version"]:
        from . import __version__

        sys.stdout.write(f"codexgate {__version__}\n")
        return 0
    from .cli.main import run

    return run()


if __name__ == "__main__":
    main()
