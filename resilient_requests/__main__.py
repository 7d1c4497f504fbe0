"""The command line from its first import on: ``python -m resilient_requests``, and the script."""

# PYTHON_ARGCOMPLETE_OK: argcomplete's global completion looks for this mark.

import sys

try:
    from resilient_requests.cli import main

    if __name__ == "__main__":
        sys.exit(main())
except KeyboardInterrupt:
    # Imports take a good part of a second: long enough for a typing error to be noticed.
    sys.exit(130)
