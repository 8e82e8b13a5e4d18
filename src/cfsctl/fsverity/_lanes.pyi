NAMES: tuple[str | None, ...]
HAS_SHA256_INSTRUCTIONS: bool

def hash_blocks(instruction_set: int, algorithm: int, data: bytes | bytearray | memoryview, /) -> bytes: ...
def hash_files(
    instruction_set: int, algorithm: int, data: bytes | bytearray | memoryview, sizes: list[int], /
) -> bytes: ...
