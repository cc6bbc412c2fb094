import pytest


@pytest.fixture
def toy(monkeypatch):
    """Put the toy generator, catalogue and strategies behind every command line."""
    from editing import directions, inversion, session
    from tests.editing import fakes

    monkeypatch.setattr(session, "load_generator", lambda device="cpu": fakes.FakeGenerator())
    monkeypatch.setattr(session, "load_catalogue", lambda *_: fakes.CATALOGUE)
    monkeypatch.setattr(directions, "apply", fakes.fake_apply, raising=False)
    monkeypatch.setattr(inversion, "STRATEGIES", fakes.STRATEGIES, raising=False)
    monkeypatch.setattr(inversion, "Budget", fakes.FakeBudget, raising=False)
    return fakes


@pytest.fixture
def command(capsys):
    """command(main, *args) -> (exit code, stdout, stderr)"""

    def run(main, *args):
        with pytest.raises(SystemExit) as ended:
            main([str(arg) for arg in args])
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return run
