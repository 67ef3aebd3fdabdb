"""What a container runs: ``coordinator``, ``worker``, ``sample``, ``keys`` or ``healthcheck``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from microgpt.support import signals

if __name__ == "__main__":
    signals.leave_quietly()  # Docker may want us to end before anything is imported

from lab.launch.container import main

if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.exit(code)
