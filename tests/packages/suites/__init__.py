"""The own tests of other packages, plain and with ours in place of every ``HTTPAdapter``."""
