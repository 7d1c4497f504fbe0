"""``python -m resilient_requests``: the command line without the installed script."""

import sys

from resilient_requests.cli import main

if __name__ == "__main__":
    sys.exit(main())
