"""Exchange of commits other than by pull: export, commit, copy, repair."""
