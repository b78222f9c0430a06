import pytest

from dci_jax.errors import reason


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("It is bad."), "It is bad"),
        (ValueError("\n  first: \nsecond"), "first"),
        (EOFError(), "EOFError"),
        (KeyError(""), "''"),
        (OSError(" . "), "OSError"),
        (ValueError("x" * 300), "x" * 200),
    ],
)
def test_the_reason_is_one_short_line_and_never_empty(error, said):
    assert reason(error) == said
