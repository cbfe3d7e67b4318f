"""Data about people: what is stored, for how long, and how it is exported and erased."""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import close_old_connections, connection
from django.test import Client
from PIL import Image

from django_visual_search import feedback, search
from django_visual_search.feedback import privacy
from django_visual_search.feedback.searches import write_searches
from django_visual_search.feedback.sessions import session_of_user
from django_visual_search.models import Evidence, Feedback, SearchLog
from django_visual_search.search import SearchResults
from django_visual_search.tasks import aggregate

from ..conftest import embed_all, picture, picture_file
from ..testshop.models import Product
from ..visits import evidence, moved_to, ranking, token, visitor

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 3, 10, 15, tzinfo=UTC)


@pytest.fixture
def user():
    return get_user_model().objects.create_user("ada.lovelace", "ada@example.com")


def use_the_shop(request, hit, query=9):
    """Search, click and buy: with the impression three events, and a row in the log."""
    feedback.log_search(SearchResults([], ranking([hit, 5000], query, shown=0)), 3.5, request)
    write_searches()
    feedback.report(request, token([hit, 5000], query), [("click", str(hit.pk))])
    feedback.record("purchase", hit, request=request)


class TestStored:
    def dumped(self):
        """Return every row of every table of the app, as text."""
        text = []
        with connection.cursor() as cursor:
            for model in apps.get_app_config("django_visual_search").get_models():
                cursor.execute(f'SELECT row_to_json(t)::text FROM "{model._meta.db_table}" AS t')
                text += [row[0] for row in cursor.fetchall()]
        return "\n".join(text)

    @pytest.mark.parametrize("address", ["203.0.113.77", "2001:db8:abcd:12::77"])
    def test_no_address_no_browser_no_name_no_photo(self, settings, user, address):
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "LOG_VECTORS": True}
        product = Product.objects.create(image=picture_file(1))
        embed_all()
        photo = io.BytesIO()
        exif = Image.Exif()
        exif[0x010F], exif[0x8298] = "CAMERA-MAKER", "PHOTOGRAPHER"
        Image.open(io.BytesIO(picture(1))).save(photo, "JPEG", exif=exif, comment=b"PHOTO-COMMENT")
        agent = "Mozilla/5.0 (Special Browser 17.3)"
        for someone in (None, user):
            request = visitor(address, agent, user=someone, HTTP_COOKIE="sessionid=COOKIE", HTTP_REFERER="/REFERER")
            photo.seek(0)
            photo.name = "HOLIDAY.jpg"
            results = search.search_by_image(photo, "testshop.Product")
            feedback.log_search(results, 3.5, request)
            write_searches()
            feedback.report(request, results.token, [("click", str(product.pk))])
            feedback.record("purchase", product, request=request, reference="ORDER-4711")
        feedback.aggregate()
        text = self.dumped()
        assert SearchLog.objects.count() == 2
        assert Feedback.objects.count() == 5
        assert feedback.session_of(visitor(address, agent)) in text
        forbidden = [
            address,
            "203.0.113",
            "2001:db8:abcd",
            agent,
            "Mozilla",
            "Special",
            "CAMERA",
            "PHOTOGRAPHER",
            "PHOTO-",
        ]
        forbidden += ["HOLIDAY", "COOKIE", "REFERER", "ORDER-4711", "ada.lovelace", "ada@", results.token, "/9j/"]
        for secret in forbidden:
            assert secret.lower() not in text.lower()

    def test_no_primary_keys_of_users(self, user):
        """A user's primary key is part of the pseudonym only."""
        user.pk = 987654321
        feedback.record("purchase", Product.objects.create(), user=user)
        assert "987654321" not in self.dumped()

    def test_a_visitor_cannot_be_followed_across_days(self):
        product = Product.objects.create()
        for day in range(4):
            with moved_to(NOW + timedelta(days=day)):
                use_the_shop(visitor(), product)
        for model, columns in ((Feedback, ["session", "network", "digest"]), (SearchLog, ["session"])):
            for column in columns:
                by_value = {}
                for day, value in model.objects.exclude(**{column: ""}).values_list("created_at__date", column):
                    by_value.setdefault(value, set()).add(day)
                assert {len(days) for days in by_value.values()} == {1}

    def test_no_cookie_is_set(self):
        client = Client()
        response = client.post(
            "/visual-search/feedback/",
            json.dumps({"token": token([1], 9), "events": [{"kind": "click", "product": "1"}]}),
            content_type="text/plain",
        )
        assert response.status_code == 202
        assert not response.cookies
        assert Feedback.objects.count() == 2


class TestExport:
    def exported(self, capsys, *args):
        call_command("export_feedback", *args)
        return json.loads(capsys.readouterr().out)

    def test_a_user(self, user, capsys, settings):
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "LOG_VECTORS": True}
        hit = Product.objects.create()
        for days in (170, 3, 0):
            with moved_to(NOW - timedelta(days=days)):
                use_the_shop(visitor(user=user), hit)
        use_the_shop(visitor(), hit)
        with moved_to(NOW):
            exported = self.exported(capsys, "--user", str(user.pk))
        assert [event["kind"] for event in exported["events"]] == ["impression", "click", "purchase"] * 3
        assert exported["events"][1] == {
            "kind": "click",
            "at": "2025-09-21T15:00:00+00:00",
            "product": {"model": "testshop.product", "pk": str(hit.pk)},
            "search": exported["events"][0]["search"],
            "query": {"kind": "product", "product": "9"},
            "rank": 1,
            "similarity": 0.9,
            "field": "testshop.Product.embedding",
            "session": session_of_user(user, NOW - timedelta(days=170)),
        }
        assert len(exported["searches"]) == 3
        assert exported["searches"][0]["at"] == "2025-09-21T15:00:00+00:00"
        assert exported["searches"][0]["query"] == {"kind": "product", "product": "9"}

    def test_vectors_too(self, capsys, settings):
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "LOG_VECTORS": True}
        product = Product.objects.create(image=picture_file(1))
        embed_all()
        feedback.log_search(search.similar_to(product), 3.5, visitor())
        write_searches()
        (row,) = self.exported(capsys, "--session", feedback.session_of(visitor()))["searches"]
        assert len(row["vector"]) == 48

    def test_a_session(self, capsys):
        hit = Product.objects.create()
        use_the_shop(visitor(), hit)
        use_the_shop(visitor(agent="Chrome"), hit)
        exported = self.exported(capsys, "--session", feedback.session_of(visitor()))
        assert (len(exported["events"]), len(exported["searches"])) == (3, 1)

    def test_a_file(self, user, tmp_path, capsys):
        use_the_shop(visitor(user=user), Product.objects.create())
        call_command("export_feedback", "--user", str(user.pk), "--output", str(tmp_path / "ada.json"))
        assert capsys.readouterr().out == ""
        assert len(json.loads((tmp_path / "ada.json").read_text())["events"]) == 3

    def test_a_file_that_cannot_be_written(self, user, tmp_path):
        with pytest.raises(CommandError, match="can't be written"):
            call_command("export_feedback", "--user", str(user.pk), "--output", str(tmp_path))

    def test_an_unknown_user(self, capsys):
        assert self.exported(capsys, "--user", "12345") == {"events": [], "searches": []}

    def test_after_changes_of_key_and_period(self, user, capsys, settings):
        hit = Product.objects.create()
        for number, days in enumerate((1, 7, 30)):
            settings.VISUAL_SEARCH = {"SESSION_DAYS": days}
            settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
            settings.SECRET_KEY = f"key {number}"
            with moved_to(NOW - timedelta(days=90 - 31 * number)):
                use_the_shop(visitor(user=user), hit)
        with moved_to(NOW):
            assert len(self.exported(capsys, "--user", str(user.pk))["events"]) == 9

    def test_a_product_that_is_gone(self, user, capsys):
        hit = Product.objects.create()
        use_the_shop(visitor(user=user), hit)
        pk = str(hit.pk)
        hit.delete()
        assert {event["product"]["pk"] for event in self.exported(capsys, "--user", str(user.pk))["events"]} == {pk}


@pytest.mark.parametrize("command", ["export_feedback", "erase_feedback"])
class TestArguments:
    @pytest.mark.parametrize("args", [[], ["--user", "1", "--session", "a" * 64]])
    def test_one_person(self, command, args):
        with pytest.raises(CommandError):
            call_command(command, *args)

    @pytest.mark.parametrize("session", ["", "abc", "g" * 64, "A" * 64])
    def test_not_a_session(self, command, session):
        with pytest.raises(CommandError, match="64 hexadecimal digits"):
            call_command(command, "--session", session)

    def test_not_a_user(self, command):
        with pytest.raises(CommandError, match="not a primary key of a user"):
            call_command(command, "--user", "ada")


class TestErasure:
    def test_a_user(self, user, capsys):
        hit = Product.objects.create()
        for days in (100, 0):
            with moved_to(NOW - timedelta(days=days)):
                use_the_shop(visitor(user=user), hit)
        with moved_to(NOW):
            use_the_shop(visitor(), hit)
            call_command("erase_feedback", "--user", str(user.pk))
            assert capsys.readouterr().out == "Erased: 6 events, 2 searches\n"
            assert Feedback.objects.count() == 3
            assert SearchLog.objects.count() == 1
            assert set(Feedback.objects.values_list("session", flat=True)) == {feedback.session_of(visitor())}

    def test_a_user_whose_account_is_gone(self, user, capsys):
        use_the_shop(visitor(user=user), Product.objects.create())
        pk = user.pk
        user.delete()
        call_command("erase_feedback", "--user", str(pk))
        assert not Feedback.objects.exists()

    def test_counted_events_are_subtracted(self, user):
        hit, other = Product.objects.create(), Product.objects.create()
        with moved_to(NOW):
            use_the_shop(visitor(), hit)
            use_the_shop(visitor("203.0.113.9", user=user), hit)
            use_the_shop(visitor("203.0.113.9", user=user), other, query="")
            feedback.aggregate()
            assert evidence() == {str(hit.pk): (12, 2), str(other.pk): (6, 1)}
        with moved_to(NOW + timedelta(days=30)):
            feedback.report(visitor(), token([hit], 9), [("click", str(hit.pk))])
            feedback.aggregate()
        with moved_to(NOW + timedelta(days=60)):
            call_command("erase_feedback", "--user", str(user.pk))
        # What is left is what the other visitor has added, as if the user had never been there.
        assert evidence() == evidence(9) == {str(hit.pk): (6 / 4 + 1 / 2, 1 / 4 + 1 / 2)}
        assert Evidence.objects.count() == 2

    def test_uncounted_events_are_never_counted(self, user):
        use_the_shop(visitor(user=user), Product.objects.create())
        call_command("erase_feedback", "--user", str(user.pk))
        assert feedback.aggregate() == 0
        assert not Evidence.objects.exists()

    def test_erasing_a_cheats_session(self):
        """The events of one session can be subtracted from the rankings."""
        with moved_to(NOW):
            for query in range(100, 110):
                feedback.report(visitor(), token(range(1, 9), query), [("click", str(n)) for n in range(1, 9)])
                feedback.report(visitor("192.0.2.9"), token(range(1, 9), query), [("skip", "2")])
            feedback.aggregate()
            call_command("erase_feedback", "--session", feedback.session_of(visitor()))
            assert set(evidence()) == {"2"}
            assert evidence()["2"] == (-1, 5)

    def test_twice(self, user, capsys):
        use_the_shop(visitor(user=user), Product.objects.create())
        feedback.aggregate()
        for _ in range(2):
            call_command("erase_feedback", "--user", str(user.pk))
        assert capsys.readouterr().out.endswith("Erased: 0 events, 0 searches\n")
        assert not Evidence.objects.exists()

    @pytest.mark.django_db(transaction=True)
    def test_while_events_are_counted(self):
        requests = [visitor(f"192.0.2.{n}") for n in range(12)]
        for request in requests:
            feedback.report(request, token(range(1, 11), 9), [("click", str(n)) for n in range(1, 11)])

        def run(work):
            try:
                work()
            finally:
                connection.close()

        jobs = [lambda: feedback.aggregate(batch=5)] * 3
        jobs += [lambda r=r: privacy.erase([feedback.session_of(r)], chunk=3) for r in requests]
        with ThreadPoolExecutor(6) as threads:
            list(threads.map(run, jobs))
        close_old_connections()
        assert not Feedback.objects.exists()
        assert not Evidence.objects.exists()


class TestRetention:
    @pytest.fixture
    def years(self):
        hit = Product.objects.create()
        for days in (400, 181, 179, 1):
            with moved_to(NOW - timedelta(days=days)):
                use_the_shop(visitor(), hit, query=1000 + days)
                feedback.aggregate()

    def left(self):
        found = {}
        for name, rows in (
            ("events", Feedback.objects.values_list("created_at", flat=True)),
            ("searches", SearchLog.objects.values_list("created_at", flat=True)),
            ("evidence", Evidence.objects.values_list("as_of", flat=True)),
        ):
            found[name] = sorted({(NOW - at).days for at in rows})
        return found

    def test_the_command(self, years, capsys):
        with moved_to(NOW):
            call_command("purge_feedback")
        assert self.left() == {"events": [1, 179], "searches": [1, 179], "evidence": [1, 179]}
        assert capsys.readouterr().out == "Deleted: 6 events, 2 searches, 2 rows of evidence\n"
        # The sum over all queries was added to a day ago.
        assert Evidence.objects.filter(query_id="").count() == 1

    @pytest.mark.parametrize(("days", "left"), [(180, [1, 179]), (30, [1]), (0, []), (1000, [1, 179, 181, 400])])
    def test_another_number_of_days(self, years, days, left):
        with moved_to(NOW):
            call_command("purge_feedback", "--days", str(days))
        assert self.left() == {"events": left, "searches": left, "evidence": left}

    def test_the_setting(self, years, settings):
        settings.VISUAL_SEARCH = {"FEEDBACK_DAYS": 30}
        with moved_to(NOW):
            privacy.purge()
        assert self.left()["events"] == [1]

    def test_negative_days(self):
        with pytest.raises(CommandError, match="-1"):
            call_command("purge_feedback", "--days", "-1")

    def test_in_pieces(self, years):
        with moved_to(NOW):
            assert privacy.purge(30, chunk=1) == {"events": 9, "searches": 3, "evidence": 3}

    def test_the_task_purges_by_itself(self, years):
        with moved_to(NOW):
            aggregate()
        left = self.left()
        assert left["events"] == left["searches"] == [1, 179]

    def test_a_few_chunks_at_a_time(self, years):
        with moved_to(NOW):
            privacy.purge_some(chunk=1, evidence_seconds=0)
            assert Feedback.objects.count() == 12 - privacy.CHUNKS_OF_A_SWEEP
            privacy.purge_some(chunk=1, evidence_seconds=0)
        assert self.left() == {"events": [1, 179], "searches": [1, 179], "evidence": [1, 179]}

    def test_old_evidence_is_looked_for_once_an_hour(self, years, django_assert_num_queries):
        with moved_to(NOW):
            privacy.purge_some(evidence_seconds=0)
            with django_assert_num_queries(2):
                privacy.purge_some()
