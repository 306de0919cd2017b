"""Grant: a key for a client of the proxy, of which only a hash is kept."""

import hashlib
import os
import secrets
import sys

from aligner.config import GrantConfig
from aligner.errors import MisuseError


def grant(config: GrantConfig) -> None:
    """aligner grant: print a new key, and add its name and hash to the file; raises MisuseError for a name twice."""
    name = " ".join(config.name.split())
    if not name or name.startswith("#") or " sha256:" in name:
        raise MisuseError("a name is a word or more, and does not begin with #")
    try:
        known = config.keys.read_text(encoding="utf-8").splitlines() if config.keys.exists() else []
        if any(line.startswith(f"{name} sha256:") for line in known):
            raise MisuseError(f"{config.keys}: {name} has a key: take its line out to grant another")
        key = f"sk-aligner-{secrets.token_urlsafe(32)}"
        line = f"{name} sha256:{hashlib.sha256(key.encode()).hexdigest()}\n"
        with os.fdopen(
            os.open(config.keys, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8"
        ) as file:
            file.write(line)
    except OSError as error:
        raise MisuseError(f"{config.keys}: {error.strerror or error}") from error
    sys.stdout.write(f"{key}\n")
