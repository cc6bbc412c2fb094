import pytest

from editing.heads import registry


@pytest.fixture
def registered(tmp_path, monkeypatch):
    """A folder in place of the shipped heads': what is saved there is found by name."""
    monkeypatch.setattr(registry, "DATA", tmp_path)
    for cached in (registry.heads, registry.drawers):
        cached.cache_clear()
    yield tmp_path
    for cached in (registry.heads, registry.drawers):
        cached.cache_clear()
