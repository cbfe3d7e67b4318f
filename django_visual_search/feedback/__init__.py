"""What shoppers did with what they were shown: taken in, kept without knowing who they are, and summed up."""

from .events import BadEvent, BadToken, NotOffered
from .evidence import aggregate
from .recording import Report, record, report
from .searches import log_search
from .sessions import session_of

__all__ = [
    "BadEvent",
    "BadToken",
    "NotOffered",
    "Report",
    "aggregate",
    "log_search",
    "record",
    "report",
    "session_of",
]
