"""The command as a real process over the stand-in for the library."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LAUNCH = (
    "import sys; sys.path[:0] = sys.argv.pop(1).split(':'); import stub_library; "
    "sys.modules['reconciler.library'] = stub_library; from reconciler.cli import main; sys.exit(main())"
)


def command(*arguments):
    """The argument list of a real process over the stand-in."""
    return [sys.executable, "-c", LAUNCH, f"{HERE}:{ROOT}", *map(str, arguments)]
