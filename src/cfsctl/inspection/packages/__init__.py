"""Packages that are installed in a tree, by the databases of package managers in it.

A database is a file of the tree and so comes from outside: it is read within limits, and what is wrong with
it is a sentence, never an error of the caller.
"""
