"""Job: annotate photos. `ray job submit --working-dir . -- python jobs/annotate.py IN --out URI`."""

from __future__ import annotations

import sys

from tryon.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["data", "annotate"]
    main()
