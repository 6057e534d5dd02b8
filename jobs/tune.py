"""Job: tune a recipe. `ray job submit --working-dir . -- python jobs/tune.py gmm --space FILE --data URI --out URI`."""

from __future__ import annotations

import sys

from tryon.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "tune")
    main()
