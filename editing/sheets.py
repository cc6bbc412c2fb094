"""What a plan's results are drawn as and where they go: the edited picture, labelled strips and grids, and videos."""

from __future__ import annotations

import re
from pathlib import Path

from editing.plans import Plan, Range

VIDEO = ".mp4"


def write(editor, plan: Plan, folder: Path, filename: str, crop: bool, cell: int) -> list[Path]:
    """Render what the plan asks for and write it, all files or none; returns their paths."""
    from editing import provenance, session
    from editing.faces import photo as photos
    from editing.output import staged

    names = []
    with staged(folder) as scratch:
        if plan.wants_edit:
            result = editor.edit(plan.recipe)
            picture = photos.from_rgb(session.to_rgb(result.crop)) if crop else result.photo
            provenance.save(picture, scratch / filename, result.recipe, changed=result.changed or crop)
            names += [filename, provenance.sidecar_path(Path(filename)).name]
        stem = Path(filename).stem.removesuffix(".crop").removesuffix(".edited")
        for sheet in plan.sheets:
            kind = f"{'strip' if len(sheet) == 1 else 'grid'}-{'-'.join(in_files(part.name) for part in sheet)}"
            again = sum(known.startswith(f"{stem}.{kind}.") for known in names)  # two strips of one edit: two files
            name = f"{stem}.{kind}.{again + 1}.png" if again else f"{stem}.{kind}.png"
            recipe = editor.recipe(plan.recipe, plan.face)
            picture = photos.from_rgb(contact_sheet(editor, plan, sheet, cell))
            provenance.save(picture, scratch / name, recipe, sidecar=False)
            names.append(name)
        for part in plan.videos:
            kind = in_files(part.name)
            again = sum(known.startswith(f"{stem}.{kind}.") and known.endswith(VIDEO) for known in names)
            name = f"{stem}.{kind}.{again + 1}{VIDEO}" if again else f"{stem}.{kind}{VIDEO}"
            save_video(editor, plan, part, scratch / name, 2 * cell)
            names += [name, provenance.sidecar_path(Path(name)).name]
    return [folder / name for name in names]


def in_files(name: str) -> str:
    """The name of an edit or a head as part of a file's: heads have a colon."""
    return re.sub(r"[^\w.+-]", "_", name)


def save_video(editor, plan: Plan, part: Range, path: Path, side: int) -> None:
    """The edited crop at every strength of the range, a frame each; its recipe is that of the last frame."""
    from editing import video
    from editing.session import to_rgb

    recipes = [plan.recipe.then(part.step(value, plan.face)) for value in part.values]
    frames = (resized(to_rgb(editor.render(recipe, plan.face)), side) for recipe in recipes)
    video.save(video.counted(frames, len(recipes)), path, editor.recipe(recipes[-1], plan.face))


def resized(picture, side: int):
    """(R, R, 3) uint8 -> (side, side, 3), area-averaged; never larger than it was."""
    import numpy as np
    from PIL import Image

    side = min(side, len(picture))
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BOX))


def contact_sheet(editor, plan: Plan, sheet: tuple[Range, ...], cell: int):
    """Edited crops for one range (a row) or two (columns and rows), labelled: (H, W, 3) uint8."""
    import numpy as np
    from PIL import Image

    from editing.session import to_rgb

    across, down = sheet if len(sheet) == 2 else (sheet[0], None)
    rows = []
    for below in down.values if down else (None,):
        row = []
        for value in across.values:
            amounts = [(across, value)] + ([] if down is None else [(down, below)])
            recipe = plan.recipe.then(*(part.step(amount, plan.face) for part, amount in amounts))
            picture = Image.fromarray(to_rgb(editor.render(recipe, plan.face))).resize(
                (cell, cell), Image.Resampling.BOX
            )
            row.append(labelled(picture, ", ".join(f"{part.name} {amount:+g}" for part, amount in amounts)))
        rows.append(np.concatenate(row, axis=1))
    return np.concatenate(rows, axis=0)


def labelled(picture, text: str):
    """A picture with a line of text under it: (H + line, W, 3) uint8."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    size = max(picture.width // 16, 9)
    line = Image.new("RGB", (picture.width, size + size // 2), "white")
    pen = ImageDraw.Draw(line)
    pen.text((picture.width / 2, line.height / 2), text, fill="black", font=ImageFont.load_default(size), anchor="mm")
    return np.concatenate([np.asarray(picture), np.asarray(line)], axis=0)
