"""python -m tests.editing.toybatch: the batch's command line with toys behind it, for tests that kill processes.

TOY_SECONDS is how long an inversion takes, TOY_LOG a file with a line for each, TOY_DEADLY a folder: a photo whose red
mean is the name of a file there kills its process, as often as that file has letters.  TOY_START=fork saves the
seconds that a fresh interpreter for the template takes.
"""

import os
import signal
import time
from pathlib import Path

from editing import batch, session
from editing.batching import workers
from tests.editing import fakes


def red(image) -> str:
    return f"{image[:, 0].mean():.6f}"


def hard_strategy(generator, image, **options):
    seconds, log, deadly = (os.environ.get(f"TOY_{name}", "") for name in ("SECONDS", "LOG", "DEADLY"))
    if image.std() < 0.01:  # the face of `work.warm`, no photo
        return fakes.fake_strategy(generator, image, **options)
    if log:
        with open(log, "a") as stream:
            stream.write(f"{os.getpid()} {red(image)}\n")
    trap = Path(deadly) / red(image)
    if deadly and trap.exists() and (left := trap.read_text()):
        trap.write_text(left[1:])
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(float(seconds or 0))
    return fakes.fake_strategy(generator, image, **options)


def make_editor(catalogue=None, device="cpu", masks=None):
    editor = fakes.make_editor(catalogue, device)
    editor._strategies = {"tune": hard_strategy}
    return editor


if __name__ == "__main__":
    session.load_catalogue = lambda *_: fakes.CATALOGUE
    batch.make_editor = make_editor
    workers.START = os.environ.get("TOY_START", "spawn")
    batch.main()
