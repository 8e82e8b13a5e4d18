"""The public library: what programs may rely on, by the names that the package `cfsctl` gives it.

Everything is done in the rooms below; this room says how they go together for each task, once, for programs
and for the command line alike. `Repository` is in `repository`, its methods in one module for each kind of
task; what needs no repository is functions in `trees`, `comparison`, `sources` and `setup`. Rooms below are
imported when they are first needed.
"""
