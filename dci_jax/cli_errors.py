"""What the command line says of flags and config files that cannot be read: one sentence, with the fix."""

import re
import traceback

from dci_jax.settings.renamed import moved

_HINT = " (docs/fields.md explains every field)"


def of_flags(error: Exception, argv: list[str]) -> str:
    """The sentence for an error of the flags or of the config file; these raise errors of every kind.

    Args:
      error: what was raised.
      argv: the command line.
    """
    if sentence := _moved(argv):
        return sentence + _HINT
    text = error.args[0] if isinstance(error, KeyError) else error
    sentence = " ".join(_without_traceback(str(text)).replace("\\n", " ").replace("\\'", "'").split())
    if " " not in sentence:
        sentence = sentence.strip("\"'") or "''"
        sentence = f"The config has no field and no variant {sentence}{_variants(error)}"
    return sentence + _HINT


def _without_traceback(text: str) -> str:
    """What a config file's error says, without the lines that led there."""
    said = re.sub(r"Traceback \(most recent call last\):\n( .*\n)+", "", text)
    taken = "TypeError: get_config() takes 0 positional arguments but 1 was given"
    return said.replace(taken, "it has no variants; leave out the colon and what follows it")


def _moved(argv: list[str]) -> str | None:
    """A sentence with the field's new name, where a flag has the name of an earlier version."""
    names = re.findall(r"^--?(?:no)?config\.([\w.]+)", "\n".join(argv), re.MULTILINE)
    return next(filter(None, map(moved, names)), None)


def _variants(error: Exception) -> str:
    """The names in `VARIANTS` of the config file that raised it, as a part of a sentence; empty if there are none."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    known = frame.f_globals.get("VARIANTS", ())
    return f"; its variants are {', '.join(known)}" if known else ""
