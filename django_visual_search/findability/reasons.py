"""Why a product can't be found, or hardly, and what to do about it."""

from __future__ import annotations

from enum import StrEnum

from django.utils.translation import gettext_lazy as _


class Reason(StrEnum):
    """In the order in which a report lists them: what nobody finds at all comes first."""

    NO_PICTURE = "no-picture"
    SIZE = "size"
    REFUSED = "refused"
    QUARANTINED = "quarantined"
    MISSING = "missing"
    STALE = "stale"
    DUPLICATE = "duplicate"
    DROWNED = "drowned"

    @property
    def label(self) -> str:
        return str(LABELS[self])

    @property
    def advice(self) -> str:
        return str(ADVICE[self])


LABELS = {
    Reason.NO_PICTURE: _("no picture"),
    Reason.SIZE: _("too small or of an unsuitable size"),
    Reason.REFUSED: _("picture refused"),
    Reason.QUARANTINED: _("quarantined"),
    Reason.MISSING: _("never embedded"),
    Reason.STALE: _("stale"),
    Reason.DUPLICATE: _("duplicate picture"),
    Reason.DROWNED: _("drowned by look-alikes"),
}
ADVICE = {
    Reason.NO_PICTURE: _("Upload a picture."),
    Reason.SIZE: _("Upload a larger picture, or one that is less long and narrow."),
    Reason.REFUSED: _("Save or photograph the picture again."),
    Reason.QUARANTINED: _("Replace the picture, or have it tried again under Indexing attempts."),
    Reason.MISSING: _("The next sweep embeds it; if it stays here, look whether workers and beat run."),
    Reason.STALE: _("The next sweep embeds it; until then it is found by its old picture or not at all."),
    Reason.DUPLICATE: _("Another product has the same picture. Photograph each, or merge the products."),
    Reason.DROWNED: _("A photo of it brings up others. A clearer picture helps, or a head learned by train_embedding."),
}
CHECKED = (Reason.DUPLICATE, Reason.DROWNED)
"""What only a check finds out; the others are asked of the database whenever somebody looks."""
