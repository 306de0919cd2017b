"""What judges and annotators read: all wording that a model is asked with, and the seals that keep texts inside it."""

from aligner.prompts.editors import EDITORS, Editor, Form, editor_named
from aligner.prompts.revising import CRITIQUES, SELF_REFINE, Revising
from aligner.prompts.rubrics import QUALITIES, RUBRICS, Quality, Rubric, Rubrics, rubrics_named, text_of
from aligner.prompts.sealing import Seal

__all__ = [
    "CRITIQUES",
    "EDITORS",
    "QUALITIES",
    "RUBRICS",
    "SELF_REFINE",
    "Editor",
    "Form",
    "Quality",
    "Revising",
    "Rubric",
    "Rubrics",
    "Seal",
    "editor_named",
    "rubrics_named",
    "text_of",
]
