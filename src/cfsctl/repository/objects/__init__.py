"""The object store: writing, reading, and remembering what has been verified."""
