"""Keep vectors current: from a stale key to the vector in its row.

Entry functions: ``embed`` for given rows, ``sweep`` for all pending ones. The way of a picture: its key is *stale*
(``stale``), a process *claims* it (``claims``), reads and decodes it (``decoding``), embeds it (``embedder``) and
writes its vector unless the picture has changed meanwhile (``writes``); ``pipeline`` puts these steps in order. An
*outcome* counts the results (``runs``). A picture that can't be embedded leaves an *attempt*: *refused*, *failed* or,
after ``MAX_ATTEMPTS``, *quarantined*.
"""

from .claims import quarantine_lost
from .pipeline import embed
from .runs import Outcome
from .stale import claimed, mark_overwritten, mark_stale, outdated, pending, pending_keys, stale
from .sweeping import drop_needless_attempts, end_switch, sweep

__all__ = [
    "Outcome",
    "claimed",
    "drop_needless_attempts",
    "embed",
    "end_switch",
    "mark_overwritten",
    "mark_stale",
    "outdated",
    "pending",
    "pending_keys",
    "quarantine_lost",
    "stale",
    "sweep",
]
