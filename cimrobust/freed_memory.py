"""Memory that was freed, kept where the next allocation finds it.

glibc gives every thread a heap of its own, up to eight a processor, and blocks of up to 32 MiB are
taken from them: all arrays of most layers. What one thread frees no other can take, so that a
search of BERT-base, whose passes, gradients and sessions each have their threads, held gigabytes
that nothing used.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of `mallopt`, from malloc.h of glibc.
_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3
# Bytes from which blocks are mapped apart; the most that glibc lets this grow to by itself, which a
# large network soon makes it do.
_APART, _USUAL = 2**18, 2**25
#: Bytes of tensors from which a network is large. Threads of small ones allocate often and little,
# and would wait for each other.
LARGE = 2**27


def share_freed(tensor_bytes: int) -> bool:
    """Let all threads share one heap, if a network is large.

    It holds for the rest of the process, and changes no result.

    Args:
        tensor_bytes: Bytes of all tensors of the network.

    Returns:
        Whether it is so now: not with a small network, nor where the allocator is not glibc's.
    """
    library = _glibc(tensor_bytes)
    return library is not None and bool(library.mallopt(_M_ARENA_MAX, 1) == 1)


def return_freed(num_bytes: int) -> bool:
    """Give memory that was let go, and that lies between what is held, back to the system.

    Between stages of a large network: what one of them freed is seldom of the sizes that the next
    one asks for, and would be held beside it. Twins refer to themselves, so that what has become
    garbage is collected first. It changes no result.

    Args:
        num_bytes: Bytes that were let go, roughly.

    Returns:
        Whether any was given back: none where they are few, nor where the allocator is not glibc's.
    """
    library = _glibc(num_bytes)
    if library is not None:
        gc.collect()
    return library is not None and bool(library.malloc_trim(0) == 1)


@contextmanager
def blocks_apart(num_bytes: int) -> Iterator[None]:
    """Let the system have every larger block back as soon as it is let go.

    While a session of a large network opens: onnxruntime casts and packs one tensor after the
    other, and what it lets go between those that stay would be held until it has packed the last.
    It changes no result.

    Args:
        num_bytes: Bytes that the session is given, roughly; nothing is done where they are few.
    """
    library = _glibc(num_bytes)
    if library is None:
        yield
        return
    library.mallopt(_M_MMAP_THRESHOLD, _APART)
    try:
        yield
    finally:
        library.mallopt(_M_MMAP_THRESHOLD, _USUAL)


def _glibc(num_bytes: int) -> ctypes.CDLL | None:
    """Return the allocator, where many bytes are concerned and it is glibc's."""
    if num_bytes < LARGE:
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
