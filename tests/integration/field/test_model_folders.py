"""Rows 26 and 29: no other user and no row decides which model is run, or which file is deleted."""

import fcntl
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from django_visual_search.extractors import DirectoryStore, ExtractorUnavailable, export, litert
from django_visual_search.extractors.base import check_folder, private_folder
from django_visual_search.extractors.lite import written_model
from django_visual_search.models import Artifact
from django_visual_search.spaces.extractors import DatabaseStore, cache_directory


@pytest.fixture
def open_folder(tmp_path):
    """A folder like /tmp."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


@pytest.fixture
def another_user(monkeypatch):
    """This process is run by another user than the one who made the files."""

    def become():
        monkeypatch.setattr(os, "getuid", lambda: 12_345_678)

    return become


def test_row_26_a_folder_that_another_user_made_in_tmp_is_not_used(open_folder, another_user):
    theirs = open_folder / "django-visual-search-12345678"
    theirs.mkdir(mode=0o755)
    if os.getuid() == 0:
        os.chown(theirs, 4321, 4321)  # root's own would be trusted
    another_user()
    with pytest.raises(ExtractorUnavailable, match="belongs to user"):
        private_folder(open_folder)
    for use in (lambda: DirectoryStore(theirs).get("model"), lambda: DirectoryStore(theirs / "deeper").put("m", b"")):
        with pytest.raises(ExtractorUnavailable, match="CACHE_DIR"):
            use()


def test_row_26_a_link_that_another_user_made_is_not_followed(open_folder, tmp_path, another_user):
    (tmp_path / "theirs").mkdir()
    link = open_folder / "cache"
    link.symlink_to(tmp_path / "theirs")
    if os.getuid() == 0:
        os.lchown(link, 4321, 4321)
    another_user()
    with pytest.raises(ExtractorUnavailable, match="belongs to user"):
        check_folder(link)


def test_row_26_a_folder_of_this_users_own_is_made_where_everybody_may_write(open_folder, settings):
    settings.VISUAL_SEARCH = {"CACHE_DIR": open_folder}
    folder = cache_directory()
    assert folder.parent == open_folder
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    with pytest.raises(ExtractorUnavailable, match="everybody may write"):
        cache_directory()


def test_row_26_without_a_home_the_folder_is_private(open_folder, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    monkeypatch.setattr(tempfile, "tempdir", str(open_folder))
    assert cache_directory().stat().st_mode & 0o777 == 0o700


@pytest.mark.django_db
def test_row_26_what_is_loaded_is_what_was_checked(tmp_path, settings):
    """A model is swapped between the check and its first use."""
    settings.VISUAL_SEARCH = {"CACHE_DIR": tmp_path / "cache"}
    good = written_model(tmp_path / "lite", "lite0", 32)
    other = written_model(tmp_path / "lite", "lite0", 64)
    picture = np.zeros((1, 32, 32, 3), np.uint8)
    for path in (DatabaseStore().put("model", good.read_bytes()), good):
        loaded = litert.Flatbuffer(path, 1)
        path.write_bytes(other.read_bytes())
        with pytest.raises(ExtractorUnavailable, match="was changed"):
            loaded(picture)


def test_row_26_a_lock_that_another_user_made_holds_nobody_up(open_folder, monkeypatch, another_user):
    monkeypatch.setattr(tempfile, "tempdir", str(open_folder))
    lock = open_folder / "django-visual-search-12345678-model.lock"
    lock.touch()
    if os.getuid() == 0:
        os.chown(lock, 4321, 4321)
    another_user()

    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with export.one_at_a_time("model"):
            pass


@pytest.mark.django_db
@pytest.mark.parametrize("sha256", ["../../victim.txt", "victim.txt", "", "A" * 64])
def test_row_29_a_digest_that_is_none_touches_no_file(tmp_path, settings, sha256):
    # Only files of this test's own are named: code that fails it deletes them.
    settings.VISUAL_SEARCH = {"CACHE_DIR": tmp_path / "a" / "b"}
    victims = [tmp_path / "victim.txt", tmp_path / "a" / "b" / "victim.txt"]
    victims[1].parent.mkdir(parents=True)
    for victim in victims:
        victim.write_text("precious")
    Artifact.objects.create(name="model", sha256=sha256, data=b"evil")
    with pytest.raises(RuntimeError, match="was changed"):
        DatabaseStore().get("model")
    assert all(victim.read_text() == "precious" for victim in victims)
    with pytest.raises(ValueError, match="is not the name"):
        DirectoryStore(Path(tmp_path, "a", "b")).put("../../victim.txt", b"")
