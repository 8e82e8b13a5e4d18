"""OSTree: objects, sources, pull, the commit stream and what is made of it."""
