from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from cimrobust import freed_memory
from cimrobust.freed_memory import return_freed, share_freed


def test_small_networks_leave_the_allocator_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda _name: pytest.fail("it was asked"))
    assert share_freed(2**20) is False
    assert return_freed(2**20) is False


def test_other_allocators_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda _name: object())
    assert share_freed(2**40) is False
    assert return_freed(2**40) is False


@pytest.mark.skipif(
    not hasattr(freed_memory.ctypes.CDLL(None), "gnu_get_libc_version"), reason="not glibc"
)
def test_threads_after_it_take_what_others_freed() -> None:
    """Heaps of threads lie in mappings of 64 MiB of their own; after the call none is added."""
    code = textwrap.dedent("""
        import ctypes, threading, sys
        from cimrobust.freed_memory import share_freed

        libc = ctypes.CDLL(None)
        libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
        if sys.argv[1] == "shared":
            assert share_freed(2**40)
        found = []

        def take():
            found.append(libc.malloc(4096))

        for _ in range(4):
            thread = threading.Thread(target=take)
            thread.start()
            thread.join()
        take()
        heap = [line.split()[0] for line in open("/proc/self/maps") if "[heap]" in line]
        spans = [[int(end, 16) for end in span.split("-")] for span in heap]
        print(all(any(low <= at < high for low, high in spans) for at in found))
    """)
    asked = [sys.executable, "-c", code]
    shared, alone = (
        subprocess.run([*asked, word], check=True, capture_output=True, text=True).stdout.strip()
        for word in ("shared", "alone")
    )
    assert (shared, alone) == ("True", "False")


@pytest.mark.skipif(
    not hasattr(freed_memory.ctypes.CDLL(None), "gnu_get_libc_version"), reason="not glibc"
)
def test_what_lies_between_held_blocks_is_given_back() -> None:
    """64 MiB in blocks of 64 KiB, of which every other one is freed, and a cycle of garbage."""
    code = textwrap.dedent("""
        import ctypes, gc
        from cimrobust.available_memory import held_memory
        from cimrobust.freed_memory import return_freed

        libc = ctypes.CDLL(None)
        libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
        libc.free.argtypes = [ctypes.c_void_p]
        gc.disable()
        blocks = [libc.malloc(2**16) for _ in range(1024)]
        for block in blocks:
            ctypes.memset(block, 1, 2**16)
        for block in blocks[::2]:
            libc.free(block)
        cycle = [bytearray(b"1" * 2**25)]
        cycle.append(cycle)
        del cycle
        before = held_memory()
        assert return_freed(2**30)
        print(before - held_memory())
    """)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(done.stdout) > 0.9 * (2**25 + 2**25)


@pytest.mark.skipif(
    not hasattr(freed_memory.ctypes.CDLL(None), "gnu_get_libc_version"), reason="not glibc"
)
def test_blocks_inside_are_mapped_apart_and_those_after_it_are_not() -> None:
    """A block of 1 MiB inside is a mapping of its own, which goes as soon as it is let go."""
    code = textwrap.dedent("""
        import ctypes
        from cimrobust.freed_memory import blocks_apart

        libc = ctypes.CDLL(None)
        libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
        libc.free.argtypes = [ctypes.c_void_p]

        def goes_back():
            block = libc.malloc(2**20)
            held = libc.malloc(64)
            libc.free(block)
            page = block & ~4095
            spans = [line.split()[0].split("-") for line in open("/proc/self/maps")]
            return not any(int(low, 16) <= page + 4096 < int(high, 16) for low, high in spans)

        with blocks_apart(2**40):
            inside = goes_back()
        with blocks_apart(2**20):
            few = goes_back()
        print(inside, few)
    """)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "False"]
