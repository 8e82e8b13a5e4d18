"""Archives on their way between processes that share directories (splitdirfdstream, version 0).

    0x00  u32 length, bytes                                      bytes of the archive
    0x01  u32 length, bytes                                      the same: they are the content of a file
    0x02  u64 length, u32 directory, u32 length of name, name    the content of a file below a directory

Numbers are little-endian, and the stream ends with its file. The directories are open descriptors that the
receiver has got elsewhere. Both directions are here, without input and output.
"""

from cfsctl.dirfdstream.decode import DirfdStreamError as DirfdStreamError
from cfsctl.dirfdstream.decode import FileReference as FileReference
from cfsctl.dirfdstream.decode import StreamDecoder as StreamDecoder
from cfsctl.dirfdstream.encode import encode_inline as encode_inline
from cfsctl.dirfdstream.encode import encode_reference as encode_reference
