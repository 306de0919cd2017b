"""The pages that the proxy shows to people, and how these come in."""
