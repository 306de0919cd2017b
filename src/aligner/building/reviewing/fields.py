"""Texts on their way through a browser's text field, which changes some signs of them."""

_GOES = {0: "\ufffd", **dict.fromkeys(range(0xD800, 0xE000), "\ufffd")}
"""signs that no text field gives back: HTML has no NUL, and UTF-8 no half letters"""


def typed(text: str) -> str:
    """What a text field gives back of a text that nobody touched, with line ends of one kind; idempotent."""
    return text.replace("\r\n", "\n").replace("\r", "\n").translate(_GOES)


def restored(sent: str, base: str) -> str:
    """The text that somebody meant who was given `base` to edit: `base` itself, byte for byte, where it is unchanged.

    Where every line of `base` ends with CR and LF, so do those of the result.
    """
    plain = typed(sent)
    if plain == typed(base):
        return base
    ends = base.count("\r\n")
    is_dos = ends > 0 and base.count("\n") == ends and base.count("\r") == ends
    return plain.replace("\n", "\r\n") if is_dos else plain
