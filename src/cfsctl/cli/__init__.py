"""The command line: options to arguments, one library call, result to text.

Results go to standard output, everything else to standard error. No command knows a file format.
"""
