"""How the report writes numbers."""

_SPACE = "\u00a0"
_MINUS = "\u2212"


def share(value: float) -> str:
    """A share in per cent; nothing and everything are whole numbers, and what is nearly so is not."""
    if value in (0.0, 1.0):
        return f"{100 * value:.0f}{_SPACE}%"
    return f"{min(max(100 * value, 0.1), 99.9):.1f}{_SPACE}%"


def points(value: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    shown = f"{100 * value:+.1f}"
    return "0.0" if shown in ("+0.0", "-0.0") else shown.replace("-", _MINUS)


def p_value(p: float) -> str:
    """A p-value, to three places."""
    return "< 0.001" if p < 0.001 else "1" if p == 1 else f"{p:.3f}"


def count(number: int) -> str:
    """A whole number."""
    return f"{number:,}"


def seconds(value: float) -> str:
    """A time, in milliseconds where it is short."""
    if value >= 0.1:
        return f"{value:.2f}{_SPACE}s"
    return f"{1000 * value:.0f}{_SPACE}ms" if value >= 0.01 else f"{1000 * value:.1f}{_SPACE}ms"


def plain(value: float) -> str:
    """A number without a unit."""
    return f"{value:.2f}"
