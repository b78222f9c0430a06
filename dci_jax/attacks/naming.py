"""What the name of an attack says, without JAX: what it adapts to, what it starts from, its section of the config.

"adapted_dci+refine" knows the defense and refines the reconstruction of "adapted_dci"; its settings are those of
`config.refine`. "dci@dead_leaves" learns from that source of images alone.
"""

ORACLE = "oracle"
ADAPTED = "adapted_"
_SECTIONS = {"dci_shared": "dci"}  # any other attack's section has the attack's name


def section(name: str) -> str:
    """The section of the config that holds the attack's settings: "refine" of "adapted_dci+refine"; "" for a custom attack."""
    if ":" in name:
        return ""
    last = name.removeprefix(ADAPTED).partition("@")[0].rpartition("+")[2]
    return _SECTIONS.get(last, last)


def columns(name: str) -> dict[str, str | bool]:
    """What the name says, as columns of the results: its one source of inputs ("" for the prior), adapted, starts_from."""
    return {"source": name.partition("@")[2], "adapted": name.startswith(ADAPTED), "starts_from": starts_from(name)}


def starts_from(name: str) -> str:
    """The attack whose reconstruction this one improves: "adapted_dci" of "adapted_dci+refine"; "" if it has none."""
    return name.partition("@")[0].rpartition("+")[0]
