"""What a repository says about itself: ``meta.json``, parsed, read and written."""
