"""`wplus`: one command that groups the command lines, each imported only when it is called."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from stylegan2 import console

# name -> (module with main(args, prog), what it does)
COMMANDS = {
    "invert": ("editing.invert", "Find a face's code in the latent space."),
    "edit": ("editing.edit", "Change a face and put it back into its photo."),
    "text": ("editing.text.__main__", "Change a face by what you type, or make one from a sentence."),
    "mix": ("editing.mix", "Mix two inversions into one face."),
    "batch": ("editing.batch", "Apply one recipe to a folder of photos."),
    "directions": ("editing.directions.__main__", "Edits of your own: fit, import, share."),
    "ui": ("ui.serve", "The editor, in a browser on this machine."),
    "translate": ("editing.translate", "Translation networks: pix2pix, CycleGAN and others."),
    "evaluate": ("editing.evaluate", "Measure how well inversion keeps faces, and how well they edit."),
    "ops": ("stylegan2.ops.__main__", "CUDA kernels: build, info, bench."),
    "zoo": ("stylegan2.zoo", "Weights: list, fetch, verify, find, delete."),
}


def usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name.ljust(width)}  {what}" for name, (_, what) in COMMANDS.items()]
    return "Usage: wplus COMMAND [OPTIONS]\n\nEdit real faces in StyleGAN's latent space, offline.\n\nCommands:\n" + (
        "\n".join(lines) + "\n\n`wplus COMMAND --help` explains one; `wplus --version` prints the version.\n"
    )


def main(args: Sequence[str] | None = None) -> None:
    """Run `wplus ARGS` and exit with the command's code."""
    args = list(sys.argv[1:] if args is None else args)
    if not args or args[0] in ("-h", "--help", "help"):
        sys.stdout.write(usage())
        sys.exit(0)
    if args[0] in ("-V", "--version"):
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"wplus {version('wplus')}")
        except PackageNotFoundError:
            print("wplus (not installed)")
        sys.exit(0)
    if args[0] not in COMMANDS:
        sys.exit(console.fail(console.unknown("commands", args[0], COMMANDS), 2))
    module = importlib.import_module(COMMANDS[args[0]][0])
    module.main(args[1:], prog=f"wplus {args[0]}")


if __name__ == "__main__":
    main()
