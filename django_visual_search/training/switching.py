"""Switches a field from one vector space to another, and back, while searches go on."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass

from django.db import connections, router, transaction

from ..conf import conf
from ..evaluation.space import LIMIT, measure_space
from ..fields import EmbeddingField
from ..models import EmbeddingHead, ServingSpace
from ..spaces import serving
from ..spaces.heads import extractor_of_space, key_of_space
from ..spaces.serving import Space

GRACE = 1.5
"""Times ``serving.KNOWN_SECONDS``: when the first vector is moved after a switch was announced, so that every process
that searches asks both spaces by then."""


class SwitchRefused(ValueError):  # noqa: N818 - as images.ImageRefused
    """The switch makes no sense, or would make searches worse. The text says why, and what to do."""


@dataclass(frozen=True)
class Announced:
    """A switch that has begun."""

    space: Space
    seconds: float
    """Until vectors begin to be moved; 0 or less where they may be already."""


def space_named(field: EmbeddingField, name: str) -> Space:
    """The space of a learned head of this field, or of an extractor of the settings. Raises LookupError."""
    heads = EmbeddingHead.objects.using(router.db_for_write(field.model)).filter(label=field.label)
    head = heads.filter(name=name).first()
    if head is not None:
        return Space(head.extractor, head.pk, head.key)
    if name in conf.EXTRACTORS:
        return Space(name)
    names = ", ".join(heads.values_list("name", flat=True)) or "none"
    raise LookupError(
        f"{field.label} has no head {name!r} (it has: {names}), and VISUAL_SEARCH['EXTRACTORS'] has no such extractor "
        f"(it has: {', '.join(conf.EXTRACTORS)})."
    )


def worse(field: EmbeddingField, space: Space, say: Callable[[str], None] = lambda text: None) -> str | None:
    """Why a space should not serve, by the mean of mAP over the tasks that were measured; or None.

    A head by what was measured with pictures held out when it was learned. An extractor by embedding a sample of the
    field's pictures with it and with what serves now, which is told to ``say`` for it takes a while; a head that serves
    now has learned from these very pictures, which flatters it.
    """
    if space.head is not None:
        return _worse_head(field, EmbeddingHead.objects.using(router.db_for_write(field.model)).get(pk=space.head))
    say(f"measuring what serves now and {space.extractor} with up to {LIMIT} pictures")
    figures = []
    now = serving.serving(field).wanted
    for one in (now, space):
        measured = measure_space(field, extractor_of_space(field, one))
        for task, metrics in measured.items():
            say(f"  {key_of_space(field, one)}, {task}: {metrics}")
        figures.append(sum(metrics.mean_average_precision for metrics in measured.values()) / len(measured))
    before, after = figures
    if after < before:
        why = (
            f"{space.extractor} is worse on the shop's pictures: mAP {after:.3f}, against {before:.3f} of what serves."
        )
        if now.head is not None:
            why += (
                " That flatters the head that serves, which knows these pictures: `train_embedding --extractor "
                f"{space.extractor}` learns one for {space.extractor}, and compares both fairly."
            )
        return why
    return None


def _worse_head(field: EmbeddingField, head: EmbeddingHead) -> str | None:
    now = key_of_space(field, serving.serving(field).wanted)
    if not head.metrics:
        return f"{head.name} was never measured: nothing could be held out when it was learned."
    if head.baseline_key != now:
        return (
            f"{head.name} was measured against {head.baseline_key}, but {now} serves now: whether it is better is not "
            "known. Learn a head again, which measures it against what serves."
        )
    before, after = _mean(head, "before"), _mean(head, "after")
    if after < before:
        why = f"{head.name} is worse on held-out pictures: mAP {after:.3f}, against {before:.3f} of what serves now."
        return why + _flattered(field, head)
    return None


def _flattered(field: EmbeddingField, head: EmbeddingHead) -> str:
    """What to know where the pictures held out from a head were no news to the tuned one that it was compared with."""
    name = head.summary.get("flattered")
    heads = EmbeddingHead.objects.using(router.db_for_write(field.model))
    serves = heads.filter(label=field.label, name=name).first() if name else None
    if serves is None:
        return ""
    own = f"; on those held out from itself it reached mAP {_mean(serves, 'after'):.3f}" if serves.metrics else ""
    return f" That flatters {serves.name}, which knows these pictures{own}."


def _mean(head: EmbeddingHead, when: str) -> float:
    """Of the mAP of its tasks."""
    return sum(float(one[when]["mAP"]) for one in head.metrics) / len(head.metrics)


def announce(field: EmbeddingField, space: Space) -> Announced:
    """Make ``space`` the one that serves; every process knows within ``serving.KNOWN_SECONDS``.

    Vectors are moved by whatever embeds pictures: workers, the sweep, ``reindex_embeddings``. Calling it again for the
    same space changes nothing. Raises SwitchRefused where another switch is not finished, ExtractorUnavailable and
    ImproperlyConfigured where the space's extractor can't be made here.
    """
    extractor_of_space(field, space)  # rather here than in every worker
    with transaction.atomic(using=router.db_for_write(field.model)):
        row = _row(field)
        if row is None:
            now = _now(router.db_for_write(field.model))
            row = ServingSpace(label=field.label, extractor=field.extractor, effective_at=now, finished_at=now)
        elif row.finished_at is None and not _is(row, space):
            raise SwitchRefused(
                f"{field.label} is being switched to {row.head or row.extractor}: let that be finished (run the same "
                "command again), or go back with --rollback."
            )
        if _is(row, space):
            return Announced(space, _left(field, row))
        row.previous_extractor, row.previous_head_id = row.extractor, row.head_id
        row.extractor, row.head_id = space.extractor, space.head
        return _save(field, row)


def roll_back(field: EmbeddingField) -> Announced:
    """Go back to what served before the latest switch, finished or not. Raises SwitchRefused where there was none."""
    with transaction.atomic(using=router.db_for_write(field.model)):
        row = _row(field)
        if row is None:
            raise SwitchRefused(f"{field.label} was never switched: there is nothing to go back to.")
        row.extractor, row.previous_extractor = row.previous_extractor, row.extractor
        row.head_id, row.previous_head_id = row.previous_head_id, row.head_id
        if row.head_id is None and row.extractor not in conf.EXTRACTORS:
            raise SwitchRefused(
                f"What served before was the extractor {row.extractor!r}, which VISUAL_SEARCH['EXTRACTORS'] doesn't "
                "have any more: put it back first."
            )
        return _save(field, row)


def know_anew() -> None:
    """Ask the database again what serves."""
    serving.forget()


def _row(field: EmbeddingField) -> ServingSpace | None:
    rows = ServingSpace.objects.using(router.db_for_write(field.model)).select_for_update()
    row: ServingSpace | None = rows.filter(label=field.label).first()
    return row


def _save(field: EmbeddingField, row: ServingSpace) -> Announced:
    using = router.db_for_write(field.model)
    row.changed_at = _now(using)
    row.effective_at = row.changed_at + datetime.timedelta(seconds=GRACE * serving.KNOWN_SECONDS)
    row.finished_at = None
    row.save(using=using)
    EmbeddingHead.objects.using(using).filter(pk__in=[pk for pk in (row.head_id,) if pk]).update(
        state=EmbeddingHead.State.SERVING
    )
    serving.forget()
    return Announced(Space(row.extractor, row.head_id, row.head.key if row.head else ""), _left(field, row))


def _is(row: ServingSpace, space: Space) -> bool:
    return (row.extractor, row.head_id) == (space.extractor, space.head)


def _left(field: EmbeddingField, row: ServingSpace) -> float:
    return float((row.effective_at - _now(router.db_for_write(field.model))).total_seconds())


def _now(using: str) -> datetime.datetime:
    """By the database's clock, which every process asks."""
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        now: datetime.datetime = cursor.fetchone()[0]
        return now
