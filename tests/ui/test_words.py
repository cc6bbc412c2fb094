"""Every language says everything, with the same gaps."""

import ast
import json
import re
from pathlib import Path

import pytest

from editing.directions import catalogue
from editing.heads import registry
from editing.judges import population
from editing.judges.parsing.labels import CLASSES
from ui import placing, words
from ui.presets import PRESETS
from ui.views import boxes, paint

TEXTS = {path.stem: json.loads(path.read_text("utf-8")) for path in words.FOLDER.glob("*.json")}


def gaps(text):
    return sorted(re.findall(r"{(\w*)}", text))


def test_there_are_two_and_english_is_first():
    assert list(words.languages()) == ["en", "ko"] and words.languages()["ko"] == "한국어"


@pytest.mark.parametrize("code", TEXTS)
def test_no_text_is_missing_and_gaps_are_the_same(code):
    english = TEXTS["en"]
    assert set(english) <= set(TEXTS[code])
    wrong = [key for key, text in english.items() if gaps(text) != gaps(TEXTS[code][key])]
    assert not wrong and all(text.strip() for text in TEXTS[code].values())


def test_korean_has_a_name_for_every_edit_group_judge_and_preset():
    edits = catalogue.load()
    wanted = {f"edit.{name}" for name in edits} | {f"judge.{name}" for name in population.load()}
    wanted |= {f"group.{direction.group}" for direction in edits.values()} | {f"preset.{name}" for name in PRESETS}
    assert not wanted - set(TEXTS["ko"])
    heads = {f"edit.{name}" for name in registry.heads()} | {"group.heads"}
    assert len(heads) > 10 and not heads - set(TEXTS["ko"]) and not heads - set(TEXTS["en"])


@pytest.mark.parametrize("code", TEXTS)
def test_every_part_and_label_has_a_name(code):
    assert {f"label.{name}" for name in CLASSES} | {f"part.{name}" for name in placing.PARTS} <= set(TEXTS[code])
    assert set(boxes.ORDER) == set(placing.PARTS) and set(paint.ORDER) == set(CLASSES)


def test_what_is_not_translated_falls_back():
    assert words.say("ko", "undo") != words.say("en", "undo")
    assert words.say("xx", "undo") == words.say("en", "undo")
    assert words.say("ko", "no.such.key") == "no.such.key"
    assert words.say("en", "choose", count=2).startswith("2 faces")
    assert words.name_of("en", "edit", "wide_mouth") == "wide mouth"


def test_the_page_asks_for_no_text_that_there_is_not():
    sources = [path.read_text() for path in words.FOLDER.parent.rglob("*.py")]
    asked = {key for source in sources for key in re.findall(r'say\(\s*"([\w.+-]+)"', source)}
    assert asked and not asked - set(TEXTS["en"])


SENTENCES = {path.stem: json.loads(path.read_text("utf-8")) for path in (words.FOLDER / "sentences").glob("*.json")}


def said_by_the_program():
    """Every text of the packages with its gaps empty: '{} is empty.'"""
    for path in (p for folder in ("editing", "stylegan2", "ui") for p in Path(folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(p.value if isinstance(p, ast.Constant) else "{}" for p in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


@pytest.mark.parametrize("code", SENTENCES)
def test_only_sentences_that_the_program_says_are_translated(code, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    there, known = set(said_by_the_program()), SENTENCES[code]
    assert len(known) > 50 and code in TEXTS
    assert not {english for english in known if re.sub(r"{\w+}", "{}", english) not in there}
    assert not [english for english, text in known.items() if set(gaps(text)) - set(gaps(english)) or not text.strip()]


@pytest.mark.parametrize(("sentence", "korean"), [
    ("notes {1}.png is empty.", "notes {1}.png: 빈 파일입니다."),
    ("This face has no ears.", "이 얼굴에는 그 부분(ears)이 없습니다."),
    ("The grid a:b has 'smile' in both directions.", "격자 a:b: 두 방향이 모두 'smile'입니다."),
    ("There are no edits called 'smil': did you mean smile?", "'smil': 그런 이름이 없습니다."),
])  # fmt: skip
def test_sentences_of_the_program_are_translated(sentence, korean):
    assert words.told("ko", sentence) == korean
    assert words.told("en", sentence) == words.told("xx", sentence) == sentence
    assert words.told("ko", "What nobody says.") == "What nobody says."


@pytest.mark.parametrize("code", SENTENCES)
def test_no_sentence_is_taken_for_another(code):
    filled = {re.sub(r"{(\w+)}", r"<\1>", english): text for english, text in SENTENCES[code].items()}
    assert [words.told(code, english) for english in filled] == [
        re.sub(r"{(\w+)}", r"<\1>", t) for t in filled.values()
    ]
