"""The limit on photo searches that one process runs at the same time, for import by shops."""

from .storefront.gate import Busy, photo_slot, refuse_when_full

__all__ = ["Busy", "photo_slot", "refuse_when_full"]
