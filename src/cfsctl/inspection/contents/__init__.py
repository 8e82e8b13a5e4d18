"""What is in a tree, without mounting it: lists of entries, contents of files, and copies of directories."""
