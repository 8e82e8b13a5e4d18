"""Dump files: the text form of a tree, one line a path, written and read."""

from cfsctl.dumpfile.format import DumpfileError
from cfsctl.dumpfile.reader import parse_dump
from cfsctl.dumpfile.writer import DumpWriter, iter_dump
from cfsctl.tree.dialect import Dialect

__all__ = ["Dialect", "DumpWriter", "DumpfileError", "iter_dump", "parse_dump"]
