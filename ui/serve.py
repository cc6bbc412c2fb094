"""Start the editor:  wplus ui        (the same as `streamlit run ui/app.py`)

Options behind `--` are Streamlit's own, for example `wplus ui -- --server.port 8600`.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from stylegan2 import console
from stylegan2.errors import UsageError

app = console.app("The editor, in a browser on this machine.")


@app.command()
def serve(
    options: Annotated[list[str] | None, typer.Argument(help="Options of Streamlit, behind --.")] = None,
) -> None:
    """Start the editor and say where it is; Ctrl-C ends it."""
    if importlib.util.find_spec("streamlit") is None:
        raise UsageError("The editor needs Streamlit: pip install 'wplus[ui]'.")
    from streamlit.web.cli import main as streamlit

    sys.argv = ["streamlit", "run", str(Path(__file__).with_name("app.py")), *(options or [])]
    streamlit()


def main(args: Sequence[str] | None = None, prog: str = "python -m ui.serve") -> None:
    console.run(app, prog, args)


if __name__ == "__main__":
    main()
