"""The documents tell the truth about the tree: links, commands, options, imports, pictures and weight cards."""

import ast
import hashlib
import importlib
import importlib.util
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from editing.cli import COMMANDS
from editing.inversion import STRATEGIES
from stylegan2.zoo_records import RECORDS

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    [ROOT / "README.md", ROOT / "README.ko.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
)
PICTURES = (".webp", ".jpg", ".jpeg", ".png", ".gif", ".avif", ".svg")
OURS = ("stylegan2", "encoders", "hyperstyle", "editing", "ui", "bench", "tests", "docs")
EACH, TOGETHER = 300_000, 15_000_000

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


# ------------------------------------------------------------------------------- reading a document


def fences(text: str) -> list[tuple[str, str]]:
    """(language, content) of every fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S)


def links(text: str) -> list[str]:
    """Targets of links and pictures that are not on the web, outside of code."""
    prose = re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    targets = re.findall(r"\]\(([^)\s]+)\)", prose) + re.findall(r'(?:src|href)="([^"]+)"', prose)
    return [target for target in targets if not re.match(r"(https?|mailto):", target)]


def anchors(text: str) -> set[str]:
    """What headings are called in links: lower case, punctuation gone, spaces to hyphens."""
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def dead_links(document: Path, text: str) -> list[str]:
    dead = []
    for target in links(text):
        path, _, anchor = target.partition("#")
        place = (document.parent / path).resolve() if path else document
        inside = place.is_relative_to(ROOT) and place.exists()
        if not inside or (anchor and anchor not in anchors(place.read_text() if path else text)):
            dead.append(target)
    return dead


MODULES = [module.removesuffix(".__main__") for module, _ in COMMANDS.values()]


def commands(text: str) -> list[str]:
    """Lines of our command lines in fenced blocks, without comments."""
    lines = [
        line.partition(" #")[0].strip() for kind, block in fences(text) if kind == "sh" for line in block.split("\n")
    ]
    modules = "|".join(map(re.escape, MODULES))
    return [line for line in lines if re.match(rf"(wplus |python -m ({modules})\b)", line)]


@cache
def help_of(call: tuple[str, ...]) -> str:
    done = subprocess.run([sys.executable, "-m", *call, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    return done.stdout if done.returncode == 0 else ""


def called(line: str) -> tuple[str, ...]:
    """A documented command line -> module (and sub-command) to ask for help."""
    words = line.split()
    if words[0] == "wplus":
        words = [
            "python",
            "-m",
            {"zoo": "stylegan2.zoo", "ops": "stylegan2.ops", "ui": "ui.serve"}.get(words[1], f"editing.{words[1]}"),
            *words[2:],
        ]
    has_subcommand = (
        words[2] in ("stylegan2.zoo", "stylegan2.ops", "editing.directions", "editing.translate", "editing.text")
        and len(words) > 3
    )
    return tuple(words[2 : 4 if has_subcommand else 3])


# --------------------------------------------------------------------------------------------- tests


@each_document
def test_links_lead_somewhere(document):
    assert not dead_links(document, document.read_text())


@each_document
def test_files_named_in_code_spans_exist(document):
    spans = re.findall(r"`([^`\s]+)`", re.sub(r"^```.*?^```", "", document.read_text(), flags=re.M | re.S))
    named = [span for span in spans if span.split("/")[0] in OURS and "/" in span]
    assert not [span for span in named if not (ROOT / span).exists()]


@each_document
def test_modules_that_are_run_exist(document):
    modules = set(re.findall(r"python -m ([A-Za-z_][\w.]*\w)", document.read_text())) - {"editing.NAME"}
    assert not [module for module in modules if importlib.util.find_spec(module) is None]


@each_document
def test_documented_commands_take_the_documented_options(document):
    wrong = []
    for line in commands(document.read_text()):
        known = set(re.findall(r"--[a-z][a-z-]*", help_of(called(line))))
        wrong += [line] if not known or set(re.findall(r"--[a-z][a-z-]*", line)) - known else []
    assert not wrong


@each_document
def test_make_targets_exist(document):
    wanted = set(re.findall(r"^make ([a-z-]+)", document.read_text(), re.M))
    wanted |= set(re.findall(r"`make ([a-z-]+)", document.read_text()))
    assert wanted <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))


@each_document
def test_python_examples_import_what_there_is(document):
    for kind, block in fences(document.read_text()):
        if kind != "python":
            continue
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    found = hasattr(module, alias.name) or importlib.util.find_spec(f"{node.module}.{alias.name}")
                    assert found, f"{node.module}.{alias.name}"


def test_every_command_line_is_in_the_readme():
    text = (ROOT / "README.md").read_text()
    assert not [module for module in MODULES if f"python -m {module}" not in text]


def test_the_documented_check_finds_the_mark_and_only_the_mark(tmp_path, monkeypatch, capsys):
    from editing import provenance
    from editing.faces import photo as photos
    from editing.types import Recipe

    (snippet,) = [block for kind, block in fences((ROOT / "docs/limits.md").read_text()) if "MARK" in block]
    monkeypatch.chdir(tmp_path)
    grey = photos.from_rgb(np.full((16, 16, 3), 99, np.uint8))
    provenance.save(grey, "holiday.edited.png", Recipe.from_strengths({"smile": 2}))
    exec(snippet, {})
    photos.save(grey, "holiday.edited.png")
    exec(snippet, {})
    assert capsys.readouterr().out.splitlines() == ["edited with AI", "no mark found"]


@pytest.fixture
def toys(monkeypatch, tmp_path):
    """A working folder with the files that the README talks of, and a toy generator behind every command."""
    from editing import directions, inversion, regions, session
    from editing.faces import photo as photos
    from editing.faces.face import Face
    from editing.judges import parsing
    from editing.types import Inversion
    from stylegan2 import checkpoints
    from tests.editing import fakes

    class Toy(fakes.FakeGenerator):
        num_ws = 16  # so that there is a row 7

        def to(self, device):
            return self

    shift = torch.tensor([0, 0, 0.1, 0])
    names = ("yaw", "closed_smile", "sefa-4-8-3.5", "blond", "lipstick")
    more = {name: fakes.FakeDirection(name, shift) for name in names}
    catalogue = fakes.CATALOGUE | more
    strategies = dict.fromkeys(STRATEGIES, fakes.fake_strategy)
    landmarks = np.zeros((68, 2))
    landmarks[36:42], landmarks[42:48], landmarks[48], landmarks[54] = (40, 40), (56, 40), (42, 58), (54, 58)
    faces = [Face((30, 25, 66, 70), 1.0, landmarks, "toy"), Face((32, 25, 68, 70), 0.5, landmarks + 2, "toy")]
    monkeypatch.setattr(session, "load_generator", lambda device="cpu": Toy())
    monkeypatch.setattr(checkpoints, "load", lambda path: Toy())
    monkeypatch.setattr(session, "load_catalogue", lambda *_: catalogue)
    monkeypatch.setattr(session.detect, "find_faces", lambda rgb, detector="auto": faces)
    monkeypatch.setattr(directions, "apply", fakes.fake_apply, raising=False)
    monkeypatch.setattr(directions, "disentangled", lambda direction, strength: direction)
    monkeypatch.setattr(parsing, "probabilities", lambda picture: np.full((256, 256, 13), 1 / 13, np.float32))
    monkeypatch.setattr(regions, "mixed", lambda generator, base, edited, _: session.synthesise(generator, edited))
    monkeypatch.setattr(inversion, "STRATEGIES", strategies, raising=False)
    monkeypatch.setattr(inversion, "Budget", fakes.FakeBudget, raising=False)
    monkeypatch.chdir(tmp_path)
    picture = photos.from_rgb(np.random.default_rng(0).integers(60, 190, (96, 96, 3), dtype=np.uint8))
    (tmp_path / "photos").mkdir()
    for name in ("holiday.jpg", "beach.jpg", "crop.png", "mask.png", "photos/a.jpg", "photos/b.png"):
        photos.save(picture, tmp_path / name)
    (tmp_path / "recipe.json").write_text('{"smile": 2}')
    for name, level in (("anna", -0.3), ("ben", 0.3)):
        Inversion(ws=torch.full((1, 16, 4), level), family="fake-64").save(tmp_path / f"{name}.inversion")
    return tmp_path


def test_the_commands_of_the_readme_work_in_their_order(toys, capsys):
    from editing import batch, edit, invert, mix

    programs = {f"editing.{name}": module.main for name, module in (("invert", invert), ("edit", edit))}
    programs |= {"editing.batch": batch.main, "editing.mix": mix.main}
    ran = 0
    for line in commands((ROOT / "README.md").read_text()):
        words = line.split()
        name = f"editing.{words[1]}" if words[0] == "wplus" else words[2]
        if name not in programs or "--paint" in line:  # the zoo downloads, these take the real networks
            continue
        ran += 1
        with pytest.raises(SystemExit) as ended:
            programs[name](words[2 if words[0] == "wplus" else 3 :])
        assert not ended.value.code, f"{line}: {capsys.readouterr().err}"
    assert ran > 12
    made = {path.name for path in (toys / "out").iterdir()}
    text = (ROOT / "README.md").read_text()
    named = {name.removeprefix("out/") for name in re.findall(r"`((?:out/)?holiday\.[\w.]+)`", text)} - {"holiday.jpg"}
    assert len(named) > 5 and named <= made


def test_the_library_example_of_the_readme_runs(toys):
    example = next(block for kind, block in fences((ROOT / "README.md").read_text()) if kind == "python")
    exec(example, {})
    assert {"holiday.inversion", "holiday.edited.png", "holiday.edited.recipe.json"} <= {p.name for p in toys.iterdir()}


@pytest.mark.parametrize("name", ["jpg", "webp", "tif", "avif", "heic"])
def test_the_documented_mark_is_in_every_format(name, tmp_path):
    from editing import provenance
    from editing.faces import photo as photos
    from editing.types import Recipe

    grey = photos.from_rgb(np.full((16, 16, 3), 99, np.uint8))
    path = provenance.save(grey, tmp_path / f"a.{name}", Recipe.from_strengths({"smile": 2}))
    assert b"digitalsourcetype/compositeWithTrainedAlgorithmicMedia" in photos.load(path).xmp


def test_pictures_are_small():
    sizes = {path: path.stat().st_size for path in (ROOT / "docs").rglob("*") if path.suffix.lower() in PICTURES}
    assert sizes
    assert not {str(path.relative_to(ROOT)): size for path, size in sizes.items() if size > EACH}
    assert sum(sizes.values()) <= TOGETHER


def card_of(name: str) -> str:
    """The text of the card of a record; a record that ships the same files unconverted shares its sister's."""
    return (ROOT / "docs" / "cards" / f"{name.removesuffix('-ir')}.md").read_text()


@pytest.mark.parametrize("name", RECORDS)
def test_every_record_of_the_zoo_has_a_card_with_its_hashes(name):
    record, text = RECORDS[name], card_of(name)
    facts = [name, record.wheel.name, record.wheel.version, record.wheel.sha256]
    facts += [fact for member in record.members for fact in (member.path, member.sha256, f"{member.size:,}")]
    assert not [fact for fact in facts if fact not in text]
    for section in (
        "Provenance",
        "Licence",
        "What it is used for here",
        "What it does badly, and for whom",
        "Removing it",
    ):
        assert f"\n## {section}\n" in text


SHIPPED = sorted(
    [
        path
        for place in ("*/data", "editing/judges/parsing", "editing/text/data", "editing/heads/data")
        for path in ROOT.glob(f"{place}/*.safetensors")
    ]
)
CARDS = {
    "parsing/reader": "parser", "data/reader": "text-edits", "data/mapper": "text-edits", "data/gancls": "gan-cls",
    "data/giga": "giga-head", "data/distilled": "distilled-edits",
    **{f"data/{name}": "picture-heads" for name in ("rbdn", "pix2pix", "bicyclegan")},
    **{f"data/{name}": "latent-heads" for name in ("cyclegan", "stargan")},
    **{f"data/{name}": "place-heads" for name in ("spade", "lostgans", "instagan")},
}  # fmt: skip


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_weights_have_a_card_with_their_size_and_hash(path):
    content, card = path.read_bytes(), card_of(CARDS.get(f"{path.parent.name}/{path.stem}", path.stem))
    assert hashlib.sha256(content).hexdigest() in card and f"{len(content):,}" in card
    assert path.relative_to(ROOT).as_posix() in card


def test_the_index_names_every_card():
    cards = {path.name for path in (ROOT / "docs" / "cards").glob("*.md")} - {"README.md"}
    assert set(links((ROOT / "docs/cards/README.md").read_text())) >= cards


def test_the_checks_see_what_is_wrong():
    document = ROOT / "README.md"
    assert dead_links(document, "[a](docs/nothing.md) ![b](docs/nothing.webp) [c](#none)\n# Title\n") == [
        "docs/nothing.md",
        "docs/nothing.webp",
        "#none",
    ]
    assert dead_links(document, "[a](../outside.md)") == ["../outside.md"]
    assert dead_links(document, "[a](LICENSE) [b](#my-title) [c](https://example.org)\n## My title!\n") == []
    text = "```sh\nwplus zoo fetch   # all\npython -m editing.edit --set a=1\nls\n```\n"
    assert [called(line) for line in commands(text)] == [("stylegan2.zoo", "fetch"), ("editing.edit",)]
    assert "--set" in help_of(("editing.edit",)) and help_of(("editing.nothing",)) == ""
