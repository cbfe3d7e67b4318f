"""Switch a field from one vector space to another, and back, while searches go on.

Entry functions: ``space_named`` finds the space that a command names, ``worse`` says why it should not serve,
``announce`` switches to it and ``roll_back`` goes back. A switch is first announced; vectors move when every process
searches both spaces; ``indexing.end_switch`` ends it when all have moved.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.db import connections, router, transaction

from ..conf import conf
from ..db.rows import all_rows
from ..evaluation.space import SPACE_LIMIT, measure_space
from ..fields import EmbeddingField
from ..models import EmbeddingHead, ServingSpace
from ..spaces import live
from ..spaces.heads import extractor_of_space, key_of_space
from ..spaces.live import Space

SWITCH_GRACE = 1.5
"""Times ``live.REMEMBERED_SECONDS``: the time from the announcement of a switch to the first moved vector. By then
every process searches both spaces. A catalogue without any vector has none to move, and waits for nothing."""


class SwitchRefused(ValueError):  # noqa: N818 - as images.ImageRefused
    """The switch is impossible now, or would make searches worse. The text says why, and what to do."""


def space_named(field: EmbeddingField, name: str) -> Space:
    """Return the space of a learned head of this field, or of an extractor of the settings. Raises LookupError."""
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
    """Return why a space should not serve, by the mean of mAP over the measured tasks; or None.

    A head is judged by its figures on pictures held out when it was learned. An extractor is judged by embedding a
    sample of the field's pictures with it and with the serving one, which takes a while: ``say`` receives the progress.
    A serving head has learned from these very pictures, which flatters it.
    """
    if space.head is not None:
        return _worse_head(field, EmbeddingHead.objects.using(router.db_for_write(field.model)).get(pk=space.head))
    say(f"measuring the serving space and {space.extractor} with up to {SPACE_LIMIT} pictures")
    figures = []
    now = live.live_spaces(field).serving
    for one in (now, space):
        measured = measure_space(field, extractor_of_space(field, one))
        for task, metrics in measured.items():
            say(f"  {key_of_space(field, one)}, {task}: {metrics}")
        figures.append(sum(metrics.mean_average_precision for metrics in measured.values()) / len(measured))
    before, after = figures
    if after < before:
        figures_of_both = f"mAP {after:.3f}, against {before:.3f} of the serving space."
        why = f"{space.extractor} is worse on the shop's pictures: {figures_of_both}"
        if now.head is not None:
            why += (
                " That flatters the serving head, which knows these pictures: `train_embedding --extractor "
                f"{space.extractor}` learns one for {space.extractor}, and compares both fairly."
            )
        return why
    return None


def _worse_head(field: EmbeddingField, head: EmbeddingHead) -> str | None:
    now = key_of_space(field, live.live_spaces(field).serving)
    if not head.metrics:
        return f"{head.name} was never measured: nothing could be held out when it was learned."
    if head.baseline_key != now:
        return (
            f"{head.name} was measured against {head.baseline_key}, but {now} serves now: it may be worse. Learn a "
            "head again, which measures it against the serving space."
        )
    if why := shortcoming(head.metrics):
        return f"{head.name} {why}" + _flattered(field, head)
    return None


SURE = 2.0
"""Standard errors by which a gain must be above 0: luck alone makes that of one head in about 40."""

SLACK = 0.02
"""Most loss, beyond luck, of a figure that the head isn't learned for."""


def shortcoming(metrics: Sequence[Mapping[str, Any]]) -> str | None:
    """Return why a head should not serve, by its figures on held-out pictures, the most important aim first; or None.

    By the first aim, it must be better than the untrained network, beyond luck, and no worse than the serving space. By
    the other aims it must be worse than neither, beyond luck; by other figures, SLACK worse at most. ``metrics``: as
    ``head.metrics_json`` returns them, aims first.
    """
    for number, one in enumerate(metrics):
        for other, change, what in (
            (one["before"], one.get("gain"), "the serving space"),
            (one.get("untrained"), one.get("learned"), "the untrained network"),
        ):
            if other is None:
                continue
            luck = SURE * change["error"] if change else 0.0
            aim = one.get("aim", True)
            slack = (0.0 if number == 0 else luck) if aim else luck + SLACK
            compared = f"({one.get('about', one['task'])}): {_pair(one['after'])}, against {_pair(other)} of {what}"
            if any(one["after"][name] < other[name] - slack for name in ("R@1", "mAP") if aim or name == "R@1"):
                return f"is worse on held-out pictures {compared}."
            if number == 0 and what == "the untrained network" and change and change["mean"] <= luck:
                return f"is not better on held-out pictures, beyond luck {compared}."
    return None


def _pair(figures: Mapping[str, Any]) -> str:
    return f"R@1 {figures['R@1']:.3f} / mAP {figures['mAP']:.3f}"


def _flattered(field: EmbeddingField, head: EmbeddingHead) -> str:
    """Return a caveat where the head's held-out pictures were known to the fine-tuned one it was compared with."""
    name = head.summary.get("flattered")
    heads = EmbeddingHead.objects.using(router.db_for_write(field.model))
    serves = heads.filter(label=field.label, name=name).first() if name else None
    if serves is None:
        return ""
    own = f"; on those held out from itself it reached mAP {_mean(serves, 'after'):.3f}" if serves.metrics else ""
    return f" That flatters {serves.name}, which knows these pictures{own}."


def _mean(head: EmbeddingHead, when: str) -> float:
    """Return the mean over tasks of the head's mAP "before" or "after"."""
    return sum(float(one[when]["mAP"]) for one in head.metrics) / len(head.metrics)


def announce(field: EmbeddingField, space: Space) -> float:
    """Let ``space`` serve. Return the seconds until vectors may move, 0 or less if they may already.

    Every process notices within ``live.REMEMBERED_SECONDS``. Workers, the sweep and ``reindex_embeddings`` move the
    vectors. Calling it again for the same space changes nothing. Raises SwitchRefused while another switch is
    unfinished, ExtractorUnavailable and ImproperlyConfigured where the space's extractor can't run.
    """
    extractor_of_space(field, space)  # fails here rather than in every worker
    with transaction.atomic(using=router.db_for_write(field.model)):
        row = _row_of_field(field)
        if row is None:
            now = _now(router.db_for_write(field.model))
            row = ServingSpace(label=field.label, extractor=field.extractor, effective_at=now, finished_at=now)
        elif row.finished_at is None and not _is_in(row, space):
            raise SwitchRefused(
                f"{field.label} is being switched to {row.head or row.extractor}: let that be finished (run the same "
                "command again), or go back with --rollback."
            )
        if not _is_in(row, space):
            row.previous_extractor, row.previous_head_id = row.extractor, row.head_id
            row.extractor, row.head_id = space.extractor, space.head
            _save(field, row)
        return _seconds_left(field, row)


def roll_back(field: EmbeddingField) -> tuple[Space, float]:
    """Go back to the space before the latest switch, finished or not. Return it, and seconds as ``announce`` does.

    Raises SwitchRefused where there was no switch.
    """
    with transaction.atomic(using=router.db_for_write(field.model)):
        row = _row_of_field(field)
        if row is None:
            raise SwitchRefused(f"{field.label} was never switched: there is nothing to go back to.")
        row.extractor, row.previous_extractor = row.previous_extractor, row.extractor
        row.head_id, row.previous_head_id = row.previous_head_id, row.head_id
        if row.head_id is None and row.extractor not in conf.EXTRACTORS:
            raise SwitchRefused(
                f"The extractor {row.extractor!r} served before, and VISUAL_SEARCH['EXTRACTORS'] no longer has it: "
                "put it back first."
            )
        _save(field, row)
        return Space(row.extractor, row.head_id, row.head.key if row.head else ""), _seconds_left(field, row)


def _row_of_field(field: EmbeddingField) -> ServingSpace | None:
    rows = ServingSpace.objects.using(router.db_for_write(field.model)).select_for_update()
    row: ServingSpace | None = rows.filter(label=field.label).first()
    return row


def _save(field: EmbeddingField, row: ServingSpace) -> None:
    using = router.db_for_write(field.model)
    row.changed_at = _now(using)
    row.effective_at = row.changed_at
    if all_rows(field.model, using).filter(**{f"{field.attname}__isnull": False}).exists():
        row.effective_at += datetime.timedelta(seconds=SWITCH_GRACE * live.REMEMBERED_SECONDS)
    row.finished_at = None
    row.save(using=using)
    EmbeddingHead.objects.using(using).filter(pk__in=[pk for pk in (row.head_id,) if pk]).update(
        state=EmbeddingHead.State.SERVING
    )
    live.forget_live_spaces()


def _is_in(row: ServingSpace, space: Space) -> bool:
    return (row.extractor, row.head_id) == (space.extractor, space.head)


def _seconds_left(field: EmbeddingField, row: ServingSpace) -> float:
    return float((row.effective_at - _now(router.db_for_write(field.model))).total_seconds())


def _now(using: str) -> datetime.datetime:
    """Return the time by the database's clock, which all processes share."""
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        now: datetime.datetime = cursor.fetchone()[0]
        return now
