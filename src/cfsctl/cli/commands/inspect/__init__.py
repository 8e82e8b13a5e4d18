"""Commands that compare and explain."""
