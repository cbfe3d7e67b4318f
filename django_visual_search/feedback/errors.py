"""Why feedback is not taken. All are ValueErrors whose text says what is wrong."""


class BadToken(ValueError):  # noqa: N818
    """The token was not made here, was altered, or is too old."""


class NotOffered(ValueError):  # noqa: N818
    """The search did not show the product."""


class BadEvent(ValueError):  # noqa: N818
    """Not an event, or not one that may be said here."""
