"""Allowed values of fields: numbers in a range, several numbers, rows, strings, True or False; and strengths of defenses."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; NaN is excluded.

    Attributes:
      low: minimum.
      high: maximum.
      above: whether to exclude `low` itself.
      below: whether to exclude `high` itself.
      whole: integers only.
    """

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False
    whole: bool = False

    def __contains__(self, value: float) -> bool:
        if self.whole and (value in (math.inf, -math.inf) or value != value or value % 1):
            return False
        low = value > self.low if self.above else value >= self.low
        high = value < self.high if self.below else value <= self.high
        return low and high

    def __str__(self) -> str:
        kind = "a whole number " if self.whole else "a number "
        least = f"{'above' if self.above else 'of at least'} {self.low:.10g}"
        most = "" if self.high == math.inf else f" and {'below' if self.below else 'at most'} {self.high:.10g}"
        return f"{kind}{least}{most}"


@dataclass(frozen=True)
class Several:
    """Several numbers.

    Attributes:
      each: the range of each of them.
      count: how many; 0: checked by their section.
    """

    each: Range
    count: int = 0

    def __str__(self) -> str:
        return f"{self.count or ''} numbers, each {self.each}".strip()


@dataclass(frozen=True)
class Rows:
    """Any number of items, each a single value or a row of values.

    Attributes:
      kinds: the types in a row; with one type, the items are single values.
      example: the text of an example value.
      each: the range of each number; None: checked elsewhere.
    """

    kinds: tuple[type, ...]
    example: str
    each: Range | None = None

    def __str__(self) -> str:
        return f"such as `{self.example}`" + (f"; each number {self.each}" if self.each else "")


@dataclass(frozen=True)
class Choice:
    """One of several words.

    Attributes:
      words: those allowed.
    """

    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{', '.join(self.words[:-1])} or {self.words[-1]}"


Form = Range | Several | Rows | Choice | type[str] | type[bool]  # `str`: a string; `bool`: True or False

COUNT, SOME = Range(1, whole=True), Range(0, whole=True)
WEIGHT = Range(0, below=True)  # below infinity
POSITIVE = Range(0, above=True, below=True)
RATE = Range(0, 10, above=True)  # of learning rates; pixels and weights are both of order 1
SHARE, BETA = Range(0, 1), Range(0, 1, below=True)
PRECISION = Choice(("float32", "bfloat16"))
POINTS = Rows((str,), "('stem',)")  # names of split points
WEIGHTS_AT = Rows((str, float), "(('stem', 0.1),)", WEIGHT)

# (field, kind) -> strengths of a defense or of a corruption.
STRENGTHS = {
    ("defenses", "none"): Range(0, 0),
    ("defenses", "gaussian"): POSITIVE,
    ("defenses", "laplace"): POSITIVE,
    ("defenses", "dropout"): Range(0, 1, above=True, below=True),
    ("defenses", "dropout_marked"): Range(0, 1, above=True, below=True),
    ("defenses", "quantize"): Range(1, 16, whole=True),
    ("defenses", "topk"): Range(0, 1, above=True, below=True),
    ("defenses", "topk_channels"): Range(0, 1, above=True, below=True),
    ("defenses", "jpeg"): Range(1, 95, whole=True),
    ("defenses", "prune_channels"): Range(0, 1, above=True, below=True),
    ("defenses", "bottleneck"): Range(1, 1024, above=True),
    ("defenses", "nopeek"): POSITIVE,
    ("defenses", "learned_noise"): POSITIVE,
    ("defenses", "fisher_noise"): Range(0, 100),
    ("defenses", "codec"): POSITIVE,
    ("defenses", "shuffle_tokens"): Range(0, 1, above=True),
    ("defenses", "drop_tokens"): Range(0, 1, above=True, below=True),
    ("defenses", "merge_tokens"): Range(0, 1, above=True),
    ("corruptions", "none"): Range(0, 0),
    ("corruptions", "gaussian"): POSITIVE,
    ("corruptions", "blur"): POSITIVE,
    ("corruptions", "mask"): Range(0, 1, above=True),
    ("corruptions", "quantize"): Range(1, 16, whole=True),
}
