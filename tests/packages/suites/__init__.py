"""The own tests of other packages, from their sdists: plain, and with our adapter in place of every ``HTTPAdapter``."""
