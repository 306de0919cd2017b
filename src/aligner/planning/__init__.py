"""What a training would take, and whether it can be right: all that can be said before torch is loaded."""
