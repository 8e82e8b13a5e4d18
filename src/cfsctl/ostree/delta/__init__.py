"""Static deltas: a few large files that turn one commit, or nothing, into another commit.

format      names, limits, the error
views       bytes read by ranges; a place for bytes that come in pieces
framing     the two containers that may be larger than memory
superblock  what a delta is made of
part        a part, compared with its digest and decompressed within limits
program     the operations of a part, with `patch` for bsdiff and `output` for files
store       where deltas come from: a repository, a file; `remote` is a server
run         parts fetched and run in workers
choice      what a delta costs, and what the objects would cost
apply       all of that for one pull
"""
