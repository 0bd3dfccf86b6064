"""Pseudonyms: keyed hashes that say nothing about a person, and the key they are made from.

The key never enters data, git, logs or models. Whoever loses it can no longer recognise samples that were taken in
before: a second intake of the same export would then look new. Keep a copy of `.ctcml/key` where you keep passwords.
"""

import hashlib
import hmac
import secrets
from pathlib import Path

from ctcml.errors import BrokenRecord
from ctcml.tables import atomic_path

KEY_BYTES = 32


def create_key(path: Path) -> bytes:
    """Make the workspace's secret key (mode 0600); an existing key is never replaced."""
    if path.exists():
        return load_key(path)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = secrets.token_bytes(KEY_BYTES)
    with atomic_path(path) as unfinished:
        unfinished.write_text(key.hex())
    path.chmod(0o600)
    return key


def load_key(path: Path) -> bytes:
    """Read the key; `BrokenRecord` when it is lost or damaged, with the way out."""
    try:
        key = bytes.fromhex(path.read_text().strip())
    except FileNotFoundError:
        raise BrokenRecord(
            f"{path}: the pseudonym key is lost; put your copy of it back there, or start a new workspace and take everything in again"
        ) from None
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise BrokenRecord(
            f"{path}: expected {KEY_BYTES} bytes in hexadecimal, found something else; put your copy of the key back"
        )
    return key


def pseudonym(key: bytes, kind: str, *parts: str) -> str:
    """Keyed pseudonym of 24 hexadecimal characters (HMAC-SHA256, 96 bits kept).

    >>> pseudonym(b"k", "cell", "S1", "7") == pseudonym(b"k", "cell", "S1", "7")
    True
    >>> pseudonym(b"k", "cell", "S1", "7") == pseudonym(b"other", "cell", "S1", "7")
    False
    """
    # A length before each part keeps ("ab", "c") and ("a", "bc") apart.
    message = "".join(f"{len(part)}:{part}" for part in (kind, *parts))
    return hmac.new(key, message.encode(), hashlib.sha256).hexdigest()[:24]
