"""What a typed sentence asks for: poles and amounts, from a small network on the words of a frozen sentence encoder.

    reader = load()
    found = reader.read("make her ten years younger and give her red hair, but no hat")
    found.wants       # {"younger": 0.8, "red_hair": 1.0}
    found.ignored     # ["no hat"]

The network is the encoder's last layers, tuned, and one of cross-attention: every pole asks all words of the sentence
whether they mean it.  What is not sure enough is not wanted; a sentence that asks for nothing known is an answer, too.
Rules stand behind it, for 'too', 'less' and 'I do not want' where it misses them and for what is to stay as it is.  How
much is for `counting`; Korean is looked up as a whole, see `korean`.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from editing.heads import files
from editing.judges import population
from editing.text import counting, korean
from editing.text import poles as known
from encoders import sentence
from encoders.sentence import SentenceEncoder
from stylegan2 import weights

INNER, HEADS = 128, 4
DEPTH = 4  # layers of the sentence encoder that stay as they are; those above are tuned
SURE = 0.4
FILE, FORMAT = Path(__file__).with_name("data") / "reader.safetensors", "wplus-reader-1"
LONGEST, AT_ONCE = 600, 160  # characters that are read, and that are read at once
PARTS, FEW = 12, 6  # parts that are looked at alone, and of which each is looked at beside the others
YOUNGEST, OLDEST = 3.0, 80.0  # years that the judge of ages can tell
REPEATED = re.compile(r"\b(\w+)(?: \1\b)+", re.IGNORECASE)
SPLIT = re.compile(r"[.;!?\n,]+|\b(?:and|but|then|plus|while)\b|&", re.IGNORECASE)
LITTLE = frozenset(re.findall("[a-z]+", """
    a an the of to in on at for hi hello there lot me him her his their them it its she he they i you we us my
    your our please thanks thank can could would should will just now also too very really and but then plus with
    make give add let have get put do does so as well ok hey this that these those person face photo picture image
    want like look be is are
"""))  # fmt: skip
NOT = re.compile(r"(?<!why )\b(?:too|less|not so|not as|not that)\s+", re.IGNORECASE)
LESS = re.compile(r"\b(?:less|not so|not as|not that)\s+", re.IGNORECASE)
DISLIKED = re.compile(
    r"^\W*(?:i |we )?(?:really )?(?:do not|don't|dont|never) (?:want|like|need)\s+(?:(?:her|him|them|me) to )?",
    re.IGNORECASE,
)
STAYS = re.compile(
    r"\b(?:without|not) (?:chang|touch|alter)ing (?:(?:any|every)thing(?: else)?"
    r"|(?:her|his|their|the|its|my|any) \w+(?: colou?r)?)",
    re.IGNORECASE,
)
LEFT = re.compile(  # alone, as it is
    r"^\W*(?:please |just |and |but )*(?:(?:keep|leave|preserve)\b(?!.*\b(?:off|out|closed|shut)\b)"
    r"|(?:do not|don't|dont|never|without) ?(?:touch|chang|alter)"
    r"|(?:do not|don't|dont|not)\b.*\bany\b|same\b(?!.*\bwith\b))",
    re.IGNORECASE,
)
WITHOUT_ANY = re.compile(r"\bwithout any\b", re.IGNORECASE)
WHOLE_PICTURE = ("pink_tint", "green_tint", "warm", "cool", "colourful", "faded", "sharp", "soft")
PLACED = re.compile(
    r"\b(?:hair|eyes?|eyebrows?|lips?|skin|teeth|background|backdrop|shirt|dress|nails?|jaw|jawline|chin)\b",
    re.IGNORECASE,
)
AGES = ("older", "elderly", "younger", "childlike")
ONE_OF = (AGES, ("smiling", "sad", "angry", "serious"))  # of which nobody can be two that pull apart
THINGS = frozenset((  # what one may not want to have
    "glasses", "makeup", "lipstick", "beard", "moustache", "facial_hair", "fringe", "blush", "eye_shadow", "eyeliner",
    "teeth", "wrinkled", "smiling",
))  # fmt: skip


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
        text, rest = plain(text[:LONGEST]), text[LONGEST:].strip()
        if korean.written(text):
            wants, ignored, age = korean.read(text)
            return Understanding(wants, ignored, None if age is None else min(max(age, YOUNGEST), OLDEST))
        said = STAYS.sub("", text)
        parts = [part.strip() for part in SPLIT.split(said) if content(part)]
        asking = [WITHOUT_ANY.sub("without", part) for part in parts if not LEFT.search(part)]
        if not asking:
            return Understanding({}, (text,) if text else ())
        whole = [said] if len(asking) == len(parts) and len(said) <= AT_ONCE else together(asking)
        chances, apart = self.chances([*whole, *asking[:PARTS]]).split([len(whole), min(len(asking), PARTS)])
        wants = {}
        for name in self.meant(self.wanted(chances.amax(0)), asking, apart):
            part = asking[int(apart[:, self.names.index(name)].argmax())]
            if name not in WHOLE_PICTURE or not PLACED.search(part):  # no tint of all for purple hair
                wants[name] = counting.amount(part)
        ages = [age for part in asking if (age := counting.age(part)) is not None]
        if ages:
            wants = {name: much for name, much in wants.items() if name not in AGES}
        ignored = [*self.idle(asking, apart, wants), *asking[PARTS:], *([f"{rest[:40]}..."] if rest else [])]
        if ages:
            left = tuple(part for part in ignored if counting.age(part) is None)
            return Understanding(wants, left, min(max(ages[0], YOUNGEST), OLDEST))
        return Understanding(counted(said, wants), tuple(ignored) if wants else (text,))

    def wanted(self, chances: Tensor) -> list[str]:
        """Of chances (P,): poles that are sure, without less sure ones that pull the other way."""
        sure = {name: float(c) for name, c in zip(self.names, chances, strict=True) if c >= self.sure}
        return [name for name in sure if not any(sure[other] > sure[name] for other in sure if clash(name, other))]

    def meant(self, names: Sequence[str], parts: Sequence[str], apart: Tensor) -> list[str]:
        """Poles of a sentence with what parts mean that have 'less', 'too', 'not so' or 'I don't want' in them, where
        the network missed it: 'not so serious' is the other end of 'serious', and so is 'less sad' of 'sad'."""
        found = list(names)
        for part, chances in zip(parts, apart, strict=False):
            disliked = DISLIKED.search(part)
            if not (disliked or NOT.search(part)):
                continue
            bare = self.chances([DISLIKED.sub("", part) if disliked else NOT.sub("", part)])[0]
            own, base = self.wanted(chances), self.wanted(bare)
            if len(own) > 1 or len(base) != 1 or (disliked and base[0] not in THINGS):
                continue
            i, opposite = self.names.index(base[0]), known.load()[base[0]].opposite
            if own == base and LESS.search(part) and bare[i] >= chances[i]:
                found = [name for name in found if name != base[0]]
                own = []
            said = own[0] if own else opposite
            if said and said not in found and not any(known.apart(said, other) for other in found):
                found.append(said)
        return found

    def idle(self, parts: Sequence[str], apart: Tensor, wants: Mapping[str, float]) -> list[str]:
        """Parts that say nothing known, neither alone nor beside the others ('darker brows, and higher')."""
        silent = [i for i, chances in enumerate(apart) if chances.max() < self.sure and not NOT.search(parts[i])]
        if not wants or not 1 < len(parts) <= FEW:
            return [parts[i] for i in silent if not wants or len(parts) > FEW]
        rests = [[j for j in range(len(parts)) if j != i] for i in silent]
        texts = [together([parts[j] for j in rest]) for rest in rests]
        chances = self.chances([text for some in texts for text in some]).split([len(some) for some in texts])
        said = (
            self.meant(self.wanted(some.amax(0)), [parts[j] for j in rest], apart[rest])
            for some, rest in zip(chances, rests, strict=True)
        )
        return [parts[i] for i, names in zip(silent, said, strict=True) if wants.keys() <= set(names)]


def plain(text: str) -> str:
    """A sentence with one kind of apostrophe, its lines as sentences, and no word twice in a row."""
    text = re.sub(r"\s*\n\s*", ". ", text.strip().replace("\u2019", "'").replace("\u2018", "'"))
    return REPEATED.sub(r"\1", " ".join(text.split()))


def clash(a: str, b: str) -> bool:
    """Two ends of one thing, or two ages or moods that nobody can have at once."""
    return known.load()[a].opposite == b or (any(a in some and b in some for some in ONE_OF) and known.apart(a, b))


def together(parts: Sequence[str]) -> list[str]:
    """Parts as sentences of AT_ONCE characters or fewer; what is longer alone is cut between words."""
    found: list[str] = []
    for part in parts:
        if found and len(found[-1]) + len(part) + 2 <= AT_ONCE:
            found[-1] += f", {part}"
        else:
            found += textwrap.wrap(part, AT_ONCE)
    return found


def content(part: str) -> bool:
    """Is there a word in it that could mean something?"""
    return any(word not in LITTLE for word in re.findall(r"[^\W_]+", part.lower()))


def counted(text: str, wants: Mapping[str, float]) -> dict[str, float]:
    """With the number of years that the sentence gives, if it is about age."""
    years, age = counting.years(text), next((name for name in wants if name in AGES), None)
    if age is None or years is None:
        return dict(wants)
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
