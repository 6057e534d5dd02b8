"""Job: measure a bundle. `ray job submit --working-dir . -- python jobs/evaluate.py --data URI --out URI`."""

from __future__ import annotations

import sys

from tryon.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "evaluate")
    main()
