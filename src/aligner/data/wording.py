"""Words that stand where a question or a correction should: of annotators, of prompts, of templates."""

import re

_DONE = r"(?:correct|revis|edit|improv|rewrit|rewritt|updat|modifi|amend|rephras|polish)(?:ed|en)"
_OPENING = re.compile(
    rf"""^\W*(?:(?:sure|certainly|of[ ]course|okay|ok|absolutely|yes)\b[,!.:]?\s+)?(?:
      (?:here(?:'s|[ ]is|[ ]are)|below[ ]is|this[ ]is|the[ ]following[ ]is)[ ](?:(?:the|a|an|my|your|one)[ ])?
        (?:[\w-]+[ ,]+){{0,3}}{_DONE}\b(?![ ](?:[\w+\#]+[ ])?(?:code|functions?|scripts?|program|query|class|method)\b)
    | (?:the[ ]|my[ ]|your[ ])?(?:(?:fully|slightly|minimally)[ ])?(?:(?:{_DONE}|original)[ ]answer
        |(?:{_DONE}|final)[ ](?:version|response|text|reply))\b(?:[ ]\(by[ ]you\))?\W*(?::|\n|$)
    | (?:correction|your[ ]revision|edited[ ]version|revision)\b[ ]?(?:\(by[ ]you\))?\W{{0,4}}:
    | i(?:'ve|[ ]have)?[ ](?:only[ ]|slightly[ ]|carefully[ ])?{_DONE}[ ](?:the|your|this|it)\b
    | i(?:'ve|[ ]have)?[ ]made[ ](?:the|some|a[ ]few|only|minimal|no|these|several|minor)\b
        [^.\n]{{0,40}}\b(?:edit|change|correction|revision)s?\b
    | no[ ](?:changes?|edits?|corrections?|revisions?)[ ](?:(?:is|are|was|were)[ ])?(?:needed|necessary|required|made)\b
    | the[ ](?:original|given|provided)[ ](?:answer|response)[ ](?:is|was|looks|does[ ]not|doesn't|already)\b
    | the[ ](?:answer|response)[ ](?:is|looks)[ ](?:already[ ])?(?:correct|fine|good|harmless|unchanged)(?:[.!]|[ ]as\b|$)
    )""",  # noqa: E501
    re.IGNORECASE | re.VERBOSE,
)
_CLOSING = re.compile(
    rf"""\n\W*(?:(?:note|explanation|changes|reasons?|edits?|justification|rationale)\b[^:\n]{{0,30}}:?\W{{0,4}}\s*
        [^\n]{{0,60}}\b(?:i[ ](?:have[ ]|only[ ])?(?:made|{_DONE}|removed|changed|added|replaced|kept)
        |(?:edits|changes|revisions|corrections)[ ]made
        |(?:original|edited|revised|corrected)[ ](?:answer|response|version))
      | (?:changes|edits|corrections|revisions)[ ]made\W{{0,4}}: )""",
    re.IGNORECASE | re.VERBOSE,
)
_WRAPPING = re.compile(
    r"""\#\#(?:correction|question|answer|answer_prefix|your_revision)\b[ ]?:
      | \#\#[ ]?(?:(?:edited|corrected)[ ](?:answer|response|version)|your[ ]revision)\b
      | ^\s*\[\[\s*[^\W\d_][^\[\]]*\]\]\s*$
      | ^\s*(?:```(?:json)?\s*)?\{\s*"(?:verdict|reasons|correction)"\s*:
      | BEGINNING[ ]OF[ ]CONVERSATION: | <\|(?:im_start|im_end|endoftext|eot_id|assistant|user)\|>
    """,
    re.IGNORECASE | re.VERBOSE,
)
_EDITING = (
    r"(?:edit|revis|correct|rewrit|rephras|modif|amend|alter|improv)(?:e|es|ed|ing|y|ten|ion|ions|ing)?\b"
    r"(?! (?:to say|that))"
)
_REFUSAL = re.compile(
    rf"""\bi(?:'m|[ ]am)?[ ](?:(?:really|very|truly)[ ])?(?:sorry[^.!?\n]{{0,40}}[ ]i[ ])?
        (?:can(?:no|')?t|can[ ]not|could[ ]not|won't|will[ ]not|(?:am[ ])?(?:unable|not[ ]able)[ ]to
        |must[ ]decline[ ]to|refuse[ ]to|decline[ ]to)
        [ ](?:help[ ]|assist[ ]|provide[ ]|offer[ ]|make[ ]|do[ ]|fulfill[ ]|complete[ ])?
        (?:you[ ])?(?:with[ ]|in[ ])?(?:(?:the|this|that|a|an|any|your|such|of)[ ])*(?:\w+[ ])?{_EDITING}
      | \bas[ ]an[ ]answer[ ]editor\b[^.\n]{{0,60}}\b(?:can(?:no|')?t|can[ ]not|unable|won't|will[ ]not)\b""",
    re.IGNORECASE | re.VERBOSE,
)
_OPENING_CHARS = 300
_CLOSING_CHARS = 800
_ASKED_TO_EDIT = re.compile(
    r"""\b(?:re-?(?:writ(?:e|es|ing|ten)|phras(?:e|es|ing|ed)|word(?:s|ing|ed)?|formulat(?:e|es|ing|ed))
      |paraphras(?:e|es|ing|ed)|proof-?read(?:s|ing)?|revis(?:e|es|ing|ed|ions?)|polish(?:es|ing|ed)?|edit(?:s|ing|ed)?
      |grammatical(?:ly)?|spell-?check
      |(?:correct|fix|improv|modif|updat|amend|chang|alter)(?:e|y|ing)?[ ](?:[\w'-]+[ ]){0,6}?
        (?:texts?|transcriptions?|sentences?|paragraphs?|essays?|letters?|e-?mails?|answers?|responses?|stor(?:y|ies)|poems?|drafts?
        |grammar|spelling|punctuation|errors?|mistakes?|typos?|codes?|functions?|scripts?|quer(?:y|ies)|photos?|images?
        |pictures?))\b""",
    re.IGNORECASE | re.VERBOSE,
)
_CODE = re.compile(
    r"""^[ \t]*(?P<fence>`{3,}|~{3,})[^\n]*(?:\n[^\n]*)*?(?:\n[ \t]*(?P=fence)[ \t]*$|\Z)
      | (?P<tick>`{1,2})[^`\n]{1,300}(?P=tick) | \b[fF][rR]?(?P<quote>["'])[^"'\n]{0,300}(?P=quote)
      | (?P<mark>["'])[^"'\n]{0,300}(?P=mark)\.format\(""",
    re.MULTILINE | re.VERBOSE,
)
"""Blocks, what stands between backticks, and strings of Python with fields."""
_ASKED_FOR_DRAFT = re.compile(
    r"""\b(?:letters?|e-?mails?|messages?|posts?|templates?|drafts?|phrase|invitations?|announcements?|speech(?:es)?|cv
      |r[e\u00e9]sum[e\u00e9]s?|profiles?|bios?|eulogy|scripts?|articles?|tickets?|contracts?|forms?|proposals?|reviews?
      |introduc(?:e|tion)|signatures?|cover[ ]letters?)\b""",
    re.IGNORECASE | re.VERBOSE,
)
_SLOTS = "(?:question|instruction|prompt|query|input|answer|correction|user_(?:input|question|query)|your_[a-z_]{1,30})"
_INSERTED = (
    r"(?:\[(?:insert|add|enter|fill[ ]in)[ ](?:(?:your|the|a|an|any|some|specific|relevant)\b[^\]\n]{0,60}"
    r"|(?:[^\]\n]{0,40}[ ])?(?:here|names?|dates?|links?|urls?|numbers?|address|texts?|questions?|topic|title|city))\]"
    r"(?![(\[])|<(?:insert[ ][^<>\n]{1,60}|placeholder|your[ ][^<>\n]{1,60}[ ]here)>)"
)
"""Slots that nobody writes on purpose; before a bracket it is the text of a link."""
_BLANKS = re.compile(
    r"(?<![\w\])])\[(?:your[ ][^\]\n]{1,60}|(?:(?:first|last|full|company)[ ])?name|placeholder|todo\b[^\]\n]{0,60})"
    rf"\](?![(\[])|{_INSERTED}|(?<![\w\\^{{}}$])\{{\{{[ ]?{_SLOTS}[ ]?\}}\}}|\blorem[ ]ipsum[ ]dolor\b",
    re.IGNORECASE,
)
_TEMPLATE_MARKS = re.compile(
    r"\[\[?your (?:correction|revision)\]?\]|(?<![\w\\^{}$])\{(?:question|answer|correction)\}", re.IGNORECASE
)
_MARKUP = re.compile(
    r"<\|[a-z_]{2,30}\|>|\[/?INST\]|<</?SYS>>|^(?:###|##) ?(?:Response|Answer|Assistant)[ \t]*(?::|$)"
    r"|BEGINNING OF CONVERSATION:|\n\n(?:Human|Assistant): |(?<![\s'\"(])</s>\s*\Z",
    re.MULTILINE,
)
"""</s> is a mark only where it ends a text: within one it is HTML"""
_UNFILLED = re.compile(
    rf"(?<![\w\\^{{}}$])(?:\{{\{{[ ]?{_SLOTS}[ ]?\}}\}}|\{{{_SLOTS}\}})|<your[ ]question[ ]here>|{_INSERTED}"
    r"|\[(?:your question|question here)[^\]\n]{0,40}\](?![(\[])",
    re.IGNORECASE,
)


def asks_to_edit(text: str) -> bool:
    """Whether somebody wants a text or a picture changed: words about changes belong to the answer there."""
    return bool(_ASKED_TO_EDIT.search(text))


def asks_for_draft(text: str) -> bool:
    """Whether somebody wants a text to send or to fill in, which may have blanks."""
    return bool(_ASKED_FOR_DRAFT.search(text))


def meta_text(text: str, answer: str, *, editing: bool = False) -> str | None:
    """Words about the correction, or of the annotator's prompt, at a place where the answer has none of them.

    Where editing is what was asked for, only those of the prompt.
    """
    for pattern, start, end in _PLACES[-1:] if editing else _PLACES:
        match = pattern.search(_plain(text)[start:end])
        if match and not pattern.search(_plain(answer)[start:end]):
            return match[0].strip()
    return None


def refusal_to_edit(text: str) -> str | None:
    """An opening that refuses to edit or correct; to refuse what was asked for is something else."""
    match = _REFUSAL.search(_plain(text)[:_OPENING_CHARS])
    return match[0] if match else None


def mark_of_prompt(text: str) -> str | None:
    """A slot of an annotator's prompt."""
    match = _TEMPLATE_MARKS.search(_without_code(text))
    return match[0] if match else None


def blank(text: str) -> str | None:
    """A place that somebody was to fill in, as in a draft of a letter; what stands in code is none."""
    match = _BLANKS.search(_without_code(text))
    return match[0] if match else None


def markup(text: str) -> str | None:
    """Marks of a chat template, or the beginning of another speaker's turn."""
    match = _MARKUP.search(_without_code(text))
    return match[0].strip() if match else None


def unfilled(text: str) -> str | None:
    """A field of a template for prompts that nobody filled in."""
    match = _UNFILLED.search(_without_code(text))
    return match[0] if match else None


def _without_code(text: str) -> str:
    return _CODE.sub(" ", text)


def _plain(text: str) -> str:
    return text.replace("\u2019", "'")


_PLACES = ((_OPENING, None, _OPENING_CHARS), (_CLOSING, -_CLOSING_CHARS, None), (_WRAPPING, None, None))
