"""What a process remembers of the database: by schema, bounded, and nothing that may be rolled back."""

import pytest
from django.db import connection, transaction

from django_visual_search.db.statements import ENTRY_BYTES, Memory, ask, cache_key

from ..testshop.models import Category

COUNT = "SELECT count(*) FROM testshop_category", ()


def counted(memory):
    answers, sent = ask(connection, {"count": (memory, COUNT)})
    return answers["count"][0][0], sent


@pytest.mark.django_db(transaction=True)
class TestAsk:
    def test_is_sent_once(self):
        memory = Memory(60)
        assert counted(memory) == (0, True)
        assert counted(memory) == (0, False)
        memory.forget()
        assert counted(memory) == (0, True)

    def test_old_answers_are_asked_again(self):
        memory = Memory(0)
        assert counted(memory) == (0, True)
        assert counted(memory) == (0, True)
        assert memory.get(connection, COUNT) is None
        assert memory.get(connection, COUNT, at_any_age=True) == [(0,)]

    def test_slow_answers_are_kept_longer(self):
        memory = Memory(0, times=1e6)
        assert counted(memory) == (0, True)
        assert counted(memory) == (0, False)

    def test_one_message(self, django_assert_num_queries):
        memory = Memory(60)
        with django_assert_num_queries(1):
            ask(connection, {"count": (memory, COUNT), "always": (None, ("SELECT %s", (1,)))})
        with django_assert_num_queries(1):
            answers, sent = ask(connection, {"count": (memory, COUNT), "always": (None, ("SELECT %s", (1,)))})
        assert sent
        assert answers == {"count": [(0,)], "always": [(1,)]}

    def test_what_a_transaction_wrote_is_not_remembered(self):
        memory = Memory(60)
        with transaction.atomic():
            Category.objects.create(name="rolled back")
            assert counted(memory) == (1, True)
            transaction.set_rollback(True)
        assert counted(memory) == (0, True)

    def test_a_transaction_that_only_reads_remembers(self):
        """As each request is with ATOMIC_REQUESTS."""
        memory = Memory(60)
        with transaction.atomic():
            assert counted(memory) == (0, True)
            assert counted(memory) == (0, False)
        assert counted(memory) == (0, False)


class Schema:
    """A connection as django-tenants makes it."""

    alias = "default"
    settings_dict = {"NAME": "shop"}

    def __init__(self, schema_name):
        self.schema_name = schema_name


class TestMemory:
    def test_each_schema_has_answers_of_its_own(self):
        memory = Memory(60)
        memory.put(Schema("one"), COUNT, [(1,)])
        memory.put(Schema("two"), COUNT, [(2,)])
        assert memory.get(Schema("one"), COUNT) == [(1,)]
        assert memory.get(Schema("two"), COUNT) == [(2,)]
        assert memory.get(Schema("three"), COUNT) is None

    def test_key_without_schemas(self):
        assert cache_key(connection) == ("default", connection.settings_dict["NAME"], "")

    def test_the_least_recently_used_go_first(self):
        place, memory = Schema(""), Memory(60, most_bytes=10 * (ENTRY_BYTES + 100))
        statements = [(f"SELECT {i}", ()) for i in range(30)]
        for statement in statements:
            memory.put(place, statement, ["x" * 90])
            assert memory.get(place, statements[0]), "used each time"
        kept = [i for i, statement in enumerate(statements) if memory.get(place, statement)]
        assert kept == [0, *range(30 - len(kept) + 1, 30)]
        assert len(kept) == len(memory) == 10
        assert memory.bytes <= memory.most_bytes

    def test_what_is_larger_than_all_is_not_kept(self):
        memory = Memory(60, most_bytes=1000)
        memory.put(Schema(""), COUNT, ["x" * 2000])
        assert (len(memory), memory.bytes) == (0, 0)

    def test_a_large_filter_takes_no_more_than_a_small_one(self):
        memory = Memory(60)
        memory.put(Schema(""), ("SELECT %s", (list(range(100_000)),)), [(1,)])
        assert memory.bytes < 2 * ENTRY_BYTES

    def test_the_same_entry_counts_once(self):
        memory = Memory(60)
        for _ in range(3):
            memory.put(Schema(""), COUNT, [(1,)])
        assert len(memory) == 1
        assert memory.bytes == ENTRY_BYTES + len("[(1,)]")
