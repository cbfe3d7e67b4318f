"""Turn ``DATABASE_URL`` into Django's ``DATABASES`` entry."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit


def database_from_url(url: str) -> dict[str, Any]:
    """Parse ``postgres://user:password@host:port/name?option=value`` (or ``postgresql://``).

    Parts are percent-decoded; further options go to the driver. A socket's folder is the percent-encoded host or the
    option ``host``. Raises ValueError, without the password in its text, for any other URL.
    """
    parts = urlsplit(url.strip())
    if parts.scheme not in ("postgres", "postgresql"):
        raise ValueError(
            f"DATABASE_URL must begin with postgres:// or postgresql://, not {parts.scheme or 'nothing'}://."
        )
    name = unquote(parts.path.lstrip("/"))
    if not name:
        raise ValueError("DATABASE_URL names no database: postgres://user:password@host:port/NAME")
    try:
        port = parts.port
    except ValueError:
        raise ValueError(
            "DATABASE_URL: the port is not a number, or a '/', '#', '?' or '@' is not percent-encoded."
        ) from None
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    # urlsplit lowers the host's case, which breaks the path of a socket's folder
    host = parts.netloc.rpartition("@")[2] if "%2f" in parts.netloc.lower() else parts.hostname or ""
    if "%2f" in host.lower() and port is not None:
        host = host.rpartition(":")[0]
    entry = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": options.pop("host", None) or unquote(host),
        "PORT": options.pop("port", None) or str(port or ""),
    }
    return entry | ({"OPTIONS": options} if options else {})
