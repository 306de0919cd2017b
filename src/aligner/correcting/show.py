"""A correction as a person reads it: the answer with what went in red and what came in green."""

from rich.console import Console
from rich.text import Text

from aligner.errors import visible
from aligner.records import Correction


def show_correction(correction: Correction) -> None:
    """Print the word diff of a correction to standard output, and why it was kept to standard error."""
    Console(soft_wrap=True, highlight=False).print(diff(correction))
    if correction.kept_reason:
        Console(stderr=True, highlight=False).print(f"The original stays: {correction.kept_reason}.", markup=False)


def diff(correction: Correction) -> Text:
    """The answer and its edits as one text: `[-old-]` struck out in red, `{+new+}` in green.

    The brackets, as in git's word diff, keep it readable without colours.
    """
    answer, position, text = correction.exchange.answer, 0, Text()
    for start, end, new in correction.edits:
        text.append(visible(answer[position:start]))
        if start < end:
            text.append(f"[-{visible(answer[start:end])}-]", "red strike")
        if new:
            text.append(f"{{+{visible(new)}+}}", "bold green")
        position = end
    return text.append(visible(answer[position:]))
