"""The face parser: which part of a face, or of what is around it, is every pixel of an aligned picture?"""

from editing.judges.parsing.labels import CLASSES as CLASSES
from editing.judges.parsing.network import parse as parse
from editing.judges.parsing.network import probabilities as probabilities
