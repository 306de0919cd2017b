"""Grant: a key for a client of the proxy, of which only a hash is kept."""

import os
import secrets
import sys

from aligner.config import GrantConfig
from aligner.errors import MisuseError
from aligner.serving.keys import line_of, read_keys


def grant(config: GrantConfig) -> None:
    """aligner grant: print a new key, and add its name and hash to the file; raises MisuseError for a name twice."""
    name = " ".join(config.name.split())
    if not name or name.startswith("#") or " sha256:" in name:
        raise MisuseError("a name is a word or more, and does not begin with #")
    if name == "operator":
        raise MisuseError('"operator" is whoever has ALIGNER_API_KEY: take another name')
    if config.keys.exists() and name in {caller.name for caller in read_keys(config.keys).values()}:
        raise MisuseError(f"{config.keys}: {name} has a key: take its line out to grant another")
    key = f"sk-aligner-{secrets.token_urlsafe(32)}"
    try:
        # Nobody else may read it.
        opened = os.open(config.keys, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(opened, "a", encoding="utf-8") as file:
            file.write(line_of(name, key, config.role))
    except OSError as error:
        raise MisuseError(f"{config.keys}: {error.strerror or error}") from error
    sys.stdout.write(f"{key}\n")
