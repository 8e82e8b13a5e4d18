"""What takes up space in a repository, how refs have changed, and what a collection would do.

Everything here is data; `cfsctl.pages` draws it. Lists are cut to the largest, and say what was left out.
"""
