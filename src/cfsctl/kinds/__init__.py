"""The kinds of streams: what the commands for a whole repository ask each of them.

`cfsctl.kinds.registry` lists them. A kind is a `cfsctl.kinds.kind.StreamKind`; it says how its streams are
checked, restored, copied, named and read as trees. CONTRIBUTING.md describes how to add one.
"""
