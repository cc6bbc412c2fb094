"""What a typed sentence asks for: poles and amounts, from a small network on the words of a frozen sentence encoder.

    reader = load()
    found = reader.read("make her ten years younger and give her red hair, but no hat")
    found.wants       # {"younger": 0.8, "red_hair": 1.0}
    found.ignored     # ["no hat"]

The network is the encoder's last layers, tuned, and one of cross-attention: every pole asks all words of the sentence
whether they mean it.  What is
not sure enough is not wanted; a sentence that asks for nothing known is an answer, too.  How much is said by a few
words ('slightly', 'a lot') and by numbers of years, which are looked up and counted; Korean is looked up as a whole,
see `korean`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from editing.heads import files
from editing.judges import population
from editing.text import korean
from editing.text import poles as known
from encoders import sentence
from encoders.sentence import SentenceEncoder
from stylegan2 import weights

INNER, HEADS = 128, 4
DEPTH = 4  # layers of the sentence encoder that stay as they are; those above are tuned
SURE = 0.4
FILE, FORMAT = Path(__file__).with_name("data") / "reader.safetensors", "wplus-reader-1"
LONGEST, AT_ONCE = 600, 160  # characters that are read, and that are read at once
YOUNGEST, OLDEST = 3.0, 80.0  # years that the judge of ages can tell
REPEATED = re.compile(r"\b(\w+)(?: \1\b)+", re.IGNORECASE)
SPLIT = re.compile(r"[.;!?\n,]+|\b(?:and|but|then|plus|while)\b|&", re.IGNORECASE)
LITTLE = frozenset(re.findall("[a-z]+", """
    a an the of to in on at for hi hello there lot me him her his their them it its she he they i you we us my
    your our please thanks thank can could would should will just now also too very really and but then plus with
    make give add let have get put do does so as well ok hey this that these those person face photo picture image
    want like look be is are
"""))  # fmt: skip
AMOUNTS = tuple(
    (re.compile(rf"\b({words})\b", re.IGNORECASE), much)
    for words, much in (
        ("slightly|subtl[ey]|somewhat|gently|mildly|hint|bit|tad|touch|a little|little bit|smidge|ever so", 0.5),
        ("extremely|incredibly|insanely|massively|as possible|maximum|totally|completely", 2.0),
        ("much|a lot|lots|way|far|very|really|considerably|strongly|heavily|super|loads|seriously|good deal", 1.5),
    )
)
NUMBERS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12, "fifteen": 15, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60,
    "seventy": 70, "a": 1, "an": 1, "several": 7, "few": 5, "couple": 2, "some": 5,
}  # fmt: skip
TENS = "twenty|thirty|forty|fifty|sixty|seventy"
COUNT = rf"\d{{1,3}}(?:\.\d+)?|(?:{TENS})[ -](?:{'|'.join(list(NUMBERS)[:9])})|{'|'.join(NUMBERS)}"
YEARS = re.compile(
    rf"(?<![\w.])(?<!half )({COUNT})[ -](?:(?:odd|of|or so|more|full|good)\s+)*(years?|yrs?|decades?)\b", re.IGNORECASE
)
AGED = re.compile(  # only of what a face is to look like: 'she looks 60' is not asked for
    r"\b(?:(?:look|appear|seem)(?: like)?|make (?:her|him|them|me|it)|into|like|to) (?:a |an )?(?:"
    r"(\d{1,3})[ -]*(?:years?|yrs?)?[ -]old\b(?! (?:photo|picture|image))"
    r"|(?:be |age )?(\d{1,2})(?=\s*(?:$|[.,;!?]|and\b|again\b)))",
    re.IGNORECASE,
)
NOT = re.compile(r"(?<!why )\b(?:too|less|not so|not as|not that)\s+", re.IGNORECASE)
STAYS = re.compile(r"\bwithout (?:chang|touch|alter)ing (?:her|his|their|the|its|my|any) \w+", re.IGNORECASE)
LEFT = re.compile(  # alone, as it is
    r"^\W*(?:please |just |and |but )*(?:keep|leave|preserve|(?:do not|don't|dont|never|without) ?(?:touch|chang|alter)"
    r"|(?:do not|don't|dont|without|not)\b.*\bany\b|same\b)",
    re.IGNORECASE,
)
NEVER = re.compile(r"\b(?:don't|dont|not|never|without)\b", re.IGNORECASE)
WHOLE_PICTURE = ("pink_tint", "green_tint", "warm", "cool", "colourful", "faded")
PLACED = re.compile(
    r"\b(?:hair|eyes?|eyebrows?|lips?|skin|teeth|background|backdrop|shirt|dress|nails?)\b", re.IGNORECASE
)
AGES = ("older", "elderly", "younger", "childlike")


@dataclass(frozen=True)
class Understanding:
    """wants: pole -> amount, 1 for as much as its words alone ask for; ignored: parts of the sentence that ask for
    nothing known; age: years that the face is to look, where the sentence says it."""

    wants: Mapping[str, float] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    age: float | None = None

    @property
    def judged(self) -> dict[str, float]:
        """Judge -> standard deviations, of poles that say how far; see `Pole.level` for the others."""
        found: dict[str, float] = {}
        for name, amount in self.wants.items():
            for judge, deviations in known.load()[name].wants.items():
                found[judge] = found.get(judge, 0.0) + amount * deviations
        return found


class Network(nn.Module):
    """hidden (B, L, C) and mask (B, L) of `SentenceEncoder.tokens`, DEPTH layers deep -> logits (B, P) that poles are
    asked for."""

    def __init__(self, count: int, width: int = sentence.WIDTH, inner: int = INNER, heads: int = HEADS,
                 above: int = sentence.LAYERS - DEPTH) -> None:  # fmt: skip
        super().__init__()
        self.heads = heads
        self.layers = nn.ModuleList(sentence.Layer(width, sentence.HEADS, 4 * width) for _ in range(above))
        self.words = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * inner))
        self.questions = nn.Parameter(torch.randn(count, inner) * inner**-0.5)
        self.mixed = nn.Sequential(nn.LayerNorm(inner), nn.Linear(inner, inner), nn.GELU(), nn.Dropout(0.2))
        self.answers = nn.Parameter(torch.randn(count, inner) * inner**-0.5)
        self.bias = nn.Parameter(torch.full((count,), -4.0))

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        for layer in self.layers:
            hidden = layer(hidden, mask)
        keys, values = (part.unflatten(-1, (self.heads, -1)) for part in self.words(hidden).chunk(2, -1))
        asked = self.questions.unflatten(-1, (self.heads, -1))  # (P, heads, D)
        logits = torch.einsum("phd,blhd->bphl", asked, keys).masked_fill(~mask[:, None, None], -torch.inf)
        seen = torch.einsum("bphl,blhd->bphd", logits.softmax(-1), values).flatten(2)  # (B, P, inner)
        return ((seen + self.mixed(seen)) * self.answers).sum(-1) + self.bias


class Reader:
    """A network and the encoder whose words it reads."""

    def __init__(self, network: Network, encoder: SentenceEncoder, names: Sequence[str], sure: float = SURE) -> None:
        self.network, self.encoder, self.names, self.sure = network.eval(), encoder, tuple(names), sure

    @torch.no_grad()
    def chances(self, texts: Sequence[str]) -> Tensor:
        """Sentences -> chances (B, P) that each pole is asked for"""
        return self.network(*self.encoder.tokens(texts, DEPTH)).sigmoid()

    def read(self, text: str) -> Understanding:
        """What a sentence asks for; nothing, and the whole sentence ignored, where it asks for nothing known."""
        text = REPEATED.sub(r"\1", " ".join(text[:LONGEST].split()))
        if korean.written(text):
            wants, ignored, age = korean.read(text)
            return Understanding(wants, ignored, None if age is None else min(max(age, YOUNGEST), OLDEST))
        text = STAYS.sub("", text)
        parts = [part.strip() for part in SPLIT.split(text) if content(part)]
        asking = [part for part in parts if not LEFT.search(part)]
        if not asking:
            return Understanding({}, (text,) if text else ())
        whole = [text] if len(asking) == len(parts) and len(text) <= AT_ONCE else together(asking)
        chances, apart = self.chances([*whole, *asking]).split([len(whole), len(asking)])
        names = self.wanted(chances.amax(0)) or self.otherwise(whole)
        wants = {}
        for name in names:
            part = self.part(name, asking, apart)
            if self.meant(name, part):
                wants[name] = amount(part)
        idle = [i for i, chance in enumerate(apart) if len(asking) > 1 and chance.max() < self.sure]
        ignored = tuple(asking[i] for i in idle if not self.adds(asking, i, names))
        aged = next(filter(None, (AGED.search(part) for part in asking if not NEVER.search(part))), None)
        if aged:
            wants = {name: much for name, much in wants.items() if name not in AGES}
            years = min(max(float(aged[1] or aged[2]), YOUNGEST), OLDEST)
            return Understanding(wants, tuple(part for part in ignored if not AGED.search(part)), years)
        return Understanding(counted(text, wants), ignored if wants else (text,))

    def otherwise(self, texts: Sequence[str]) -> list[str]:
        """Of sentences that say nothing known as they are: 'not so serious' is the other end of 'serious'."""
        if not any(NOT.search(text) for text in texts):
            return []
        plain = self.wanted(self.chances([NOT.sub("", text) for text in texts]).amax(0))
        return [opposite for name in plain if (opposite := known.load()[name].opposite)]

    def adds(self, parts: Sequence[str], i: int, names: Sequence[str]) -> bool:
        """Whether a part that says nothing alone says something beside the others: 'darker brows, and higher'"""
        rest = self.wanted(self.chances(together([*parts[:i], *parts[i + 1 :]])).amax(0))
        return not set(names) <= set(rest)

    def meant(self, name: str, part: str) -> bool:
        """Not a tint of the whole picture where a colour of hair or eyes is asked for that there is not."""
        return name not in WHOLE_PICTURE or not PLACED.search(part)

    def wanted(self, chances: Tensor) -> list[str]:
        """Of chances (P,): poles that are sure, without their less sure opposites."""
        sure = {name: float(c) for name, c in zip(self.names, chances, strict=True) if c >= self.sure}
        return [name for name in sure if sure.get(known.load()[name].opposite, 0.0) <= sure[name]]

    def part(self, name: str, parts: Sequence[str], chances: Tensor) -> str:
        """The part that asks for a pole the most."""
        return parts[int(chances[:, self.names.index(name)].argmax())]


def together(parts: Sequence[str]) -> list[str]:
    """Parts as sentences of AT_ONCE characters or fewer; what is longer alone is cut."""
    found: list[str] = []
    for part in parts:
        if found and len(found[-1]) + len(part) + 2 <= AT_ONCE:
            found[-1] += f", {part}"
        else:
            found.append(part[:AT_ONCE])
    return found


def amount(part: str) -> float:
    """How much: 1, or what a word for little or much says."""
    return next((much for words, much in AMOUNTS if words.search(part)), 1.0)


def content(part: str) -> bool:
    """Is there a word in it that could mean something?"""
    return any(word not in LITTLE for word in re.findall(r"[^\W_]+", part.lower()))


def counted(text: str, wants: Mapping[str, float]) -> dict[str, float]:
    """With the number of years that the sentence gives, if it is about age."""
    found, age = YEARS.search(text), next((name for name in wants if name in AGES), None)
    if age is None or not found:
        return dict(wants)
    tens, _, units = found[1].lower().replace("-", " ").partition(" ")
    number = NUMBERS[tens] + NUMBERS.get(units, 0) if tens in NUMBERS else float(tens)
    years = number * (10 if found[2].lower().startswith("decade") else 1)
    _, deviation = population.load()["age"]
    amount = round(min(years / deviation / abs(known.load()[age].wants["age"]), 3.0), 2)
    return {name: amount if name == age else much for name, much in wants.items() if name != age or amount}


def read_file(path: Path) -> Reader:
    """UsageError or CheckpointError if it is not a reader's file."""
    facts = {"format": FORMAT, "poles": list(known.load())}
    tensors = files.checked(path, "reader of text", facts)
    with weights.described(path, "a reader of text"):
        state = {name.removeprefix("reader."): tensor for name, tensor in tensors.items()}
        network = weights.filled(lambda: Network(len(facts["poles"])), state)
    return Reader(network, sentence.load(), facts["poles"])


@lru_cache(maxsize=1)
def load() -> Reader:
    """The reader that ships, with the encoder of the weight cache.  WeightsMissing if that was not fetched."""
    return read_file(FILE)
