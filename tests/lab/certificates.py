"""Certificates of the laboratory's origin, as files that several laboratories may share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CA, SERVER = "ca.pem", "server.pem"


def make(directory: Path, *addresses: str) -> Path:
    """Write the CA's certificate, and the origin's with its key, into the directory; return it."""
    # This import takes as long as half a laboratory, and most laboratories are given ready
    # certificates.
    import trustme

    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(directory / CA))
    ca.issue_cert(*addresses).private_key_and_cert_chain_pem.write_to_path(str(directory / SERVER))
    return directory
