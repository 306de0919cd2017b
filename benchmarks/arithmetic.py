"""An Aligner that recomputes: rules for every sum in `<<…=…>>` of some answers that does not come out."""

import ast
import operator
import re
from collections.abc import Callable, Iterable, Mapping

_SUM = re.compile(r"<<([-+*/().\d\s%]+)=(-?[\d.,]+)>>")
_ROUNDED = 0.011
"""by which a result may be off"""
_OPERATORS: Mapping[type[ast.AST], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda a, b: a / b,
}


def rules_for(answers: Iterable[str]) -> list[dict[str, str]]:
    """Rules that put the right result in the place of every wrong one, and behind the last sum into the answer."""
    wrong = {(said, *right) for text in answers for said, right in _wrong(text)}
    return [rule for said, right, old in sorted(wrong) for rule in _rules(said, right, old)]


def value_of(expression: str) -> float | None:
    """What a sum of numbers comes to; None for anything else."""
    try:
        return _value(ast.parse(expression.replace("%", "/100").strip(), mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError):
        return None


def _value(node: ast.AST) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    raise ValueError("no sum")


def _wrong(text: str) -> Iterable[tuple[str, tuple[str, str]]]:
    """Sums that do not come out, with the right result and the one that was said."""
    for match in _SUM.finditer(text):
        right, said = value_of(match[1]), float(match[2].replace(",", "").rstrip(".") or "nan")
        if right is not None and abs(right - said) > _ROUNDED:
            yield match[1], (f"{right:.10g}", match[2])


def _rules(expression: str, right: str, said: str) -> Iterable[dict[str, str]]:
    """First where the result is also the answer, then everywhere."""
    sum_, number = re.escape(f"<<{expression}={said}>>"), r"-?[\d.,]*\d"
    new = f"<<{expression}={right}>>{right}"
    yield {"pattern": rf"{sum_}(?:{number})?([^<]*)\nA: {re.escape(said)}$", "replace": rf"{new}\g<1>\nA: {right}"}
    yield {"pattern": rf"{sum_}(?:{number})?", "replace": new}
