"""Job: pack a bundle for handing out. `ray job submit --working-dir . -- python jobs/build_bundle.py BUNDLE OUT`."""

from __future__ import annotations

import sys

from tryon.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["models", "pack"]
    main()
