"""The shadow report: its figures, its page and its checklist."""
