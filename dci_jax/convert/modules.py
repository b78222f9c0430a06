"""Which modules of a PyTorch network an exported operator comes from, by PyTorch's own paths."""

from collections.abc import Sequence
from typing import Any

WEIGHTED = ("convolution", "addmm", "mm", "bmm")
_LOST = "_empty_nn_module_stack_from_metadata_hook"  # torch.export's, where it lost track of the module


def module_path(node: Any) -> str:
    """Where in the model an fx node comes from, such as "layer1.0.conv1"; "" of the model itself."""
    return (ancestors(node) or [""])[-1]


def ancestors(node: Any) -> list[str]:
    """The modules that an fx node lies in, outermost first."""
    stack = node.meta.get("nn_module_stack") or {}
    found = [path.removeprefix("L['self']").removeprefix(".") for path, _ in stack.values()]
    return [path for path in dict.fromkeys(found) if path and path != _LOST]


def modules(nodes: Sequence[Any]) -> dict[str, list[str]]:
    """Value -> the modules around it, from the whole network's "" on; where they are lost those that both neighbours share."""
    found, lost = {}, []
    for node in nodes:
        chain = ["", *ancestors(node)]
        if any(path == _LOST for path, _ in (node.meta.get("nn_module_stack") or {}).values()):
            lost.append(node.name)
            found[node.name] = None
            continue
        before = next((found[name] for name in reversed(found) if found[name]), chain)
        shared = [a for a, b in zip(before, chain, strict=False) if a == b]
        found |= dict.fromkeys(lost, shared) | {node.name: chain}
        lost = []
    return found | {name: [""] for name in lost}
