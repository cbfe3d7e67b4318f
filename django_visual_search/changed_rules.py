"""Staff see at once what a rule of theirs does: this process forgets the rules that it remembers."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models.signals import post_delete, post_save

from .models import RankingRule
from .search.planning import forget_facts


def watch_rules() -> None:
    """Called once the apps are ready."""
    for signal in (post_save, post_delete):
        signal.connect(forget_rules, sender=RankingRule, dispatch_uid="django_visual_search.forget_rules")


def forget_rules(using: str | None = None, **kwargs: Any) -> None:
    forget_facts()
    # Until the commit, other threads still read the rules as they were.
    transaction.on_commit(forget_facts, using=using, robust=True)
