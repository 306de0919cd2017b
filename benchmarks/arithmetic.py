"""An Aligner that recomputes: a rule for every answer with a sum in `<<…=…>>` that does not come out."""

import ast
import operator
import re
from collections.abc import Callable, Iterable, Mapping

_SUM = re.compile(r"<<([-+*/().\d\s%]+)=(-?[\d.,]+)>>(-?[\d.,]*\d)?")
_NUMBER = re.compile(r"\d*\.?\d+")
_ANSWER = re.compile(r"(?<=\nA: )(\S+)\s*\Z")
_ROUNDED = 0.011
"""by which a result may be off"""
_OPERATORS: Mapping[type[ast.AST], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda a, b: a / b,
}


def rules_for(answers: Iterable[str]) -> list[dict[str, str]]:
    """Rules that put the recomputed answer in the place of each one that does not come out."""
    changed = {text: new for text in answers if (new := recomputed(text)) != text}
    return [{"pattern": rf"\A{re.escape(old)}\Z", "replace": new.replace("\\", r"\\")} for old, new in changed.items()]


def recomputed(text: str) -> str:
    """The answer with every sum done again, from what the sums before it come to, and the last line with them."""
    results: dict[str, str] = {}

    def again(match: re.Match[str]) -> str:
        expression = _NUMBER.sub(lambda number: results.get(number[0], number[0]), match[1])
        value, said = value_of(expression), float(match[2].replace(",", "").rstrip(".") or "nan")
        if value is None or (expression == match[1] and abs(value - said) <= _ROUNDED):
            return match[0]
        results[match[2]] = right = f"{value:.10g}"
        return f"<<{expression}={right}>>{right}"

    return _ANSWER.sub(lambda match: results.get(match[1], match[1]), _SUM.sub(again, text))


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
