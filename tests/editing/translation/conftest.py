"""What the tests of translation have in common."""

import pytest

from editing import translate
from tests.editing.translation.toyscenes import BLUE, RED, domain


@pytest.fixture
def run(capsys):
    """run(*arguments) of `python -m editing.translate` -> (exit code, words of stdout, stderr)"""

    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            translate.main([str(a) for a in arguments])
        out = capsys.readouterr()
        return ended.value.code or 0, out.out.split(), out.err

    return call


@pytest.fixture
def folders(tmp_path):
    """InstaGAN's two domains, with masks in either place where they may lie."""
    return domain(tmp_path / "a", RED), domain(tmp_path / "b", BLUE, 3, beside=True, seed=1)
