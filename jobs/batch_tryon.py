"""Job: try-ons of a table of pairs. `ray job submit --working-dir . -- python jobs/batch_tryon.py PAIRS --out URI`."""

from __future__ import annotations

import sys

from tryon.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["data", "tryon"]
    main()
