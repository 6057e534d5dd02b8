"""Job: train one recipe. `ray job submit --working-dir . -- python jobs/train.py gmm --data URI --out URI`."""

from __future__ import annotations

import sys

from tryon.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "train")
    main()
