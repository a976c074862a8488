"""A child without an interpreter: it borrows its maker's memory, waits for a word, and executes a program.

A fork that is only to execute something copies the page tables of a whole interpreter, has both sides fault their pages in
again, and then has execve take the copy down: half of what an exec costs. This child has nothing to copy. It shares the memory
(clone(2), CLONE_VM) and never touches it but for one byte, so that it can be stopped or killed at any moment with no harm to
who goes on in there; it takes no lock, makes no call into any library, and has no signal handlers (its maker's must have been
reset). What it does is six system calls' worth of machine code, which is why this is for x86-64 only:

      mov   rbx, r8             ; the order: see _ORDER
  word:
      mov   edi, [rbx+24]       ; read(2) the word
      lea   rsi, [rbx+32]
      mov   edx, 1
      xor   eax, eax
      syscall
      cmp   rax, -4             ; EINTR
      je    word
      cmp   rax, 1
      jne   quit
      cmp   byte [rbx+32], 'g'
      jne   quit
      mov   eax, 112            ; setsid(2)
      syscall
      mov   rcx, [rbx+40]       ; say that the program comes next
      mov   byte [rcx], 1
      mov   rdi, [rbx]          ; execve(2)
      mov   rsi, [rbx+8]
      mov   rdx, [rbx+16]
      mov   eax, 59
      syscall
      mov   rcx, [rbx+40]       ; say that it doesn't
      mov   byte [rcx], 2
  quit:
      mov   edi, 1              ; exit_group(2)
      mov   eax, 231
      syscall

The C library's ``syscall`` puts its sixth argument into r8, where clone(2) would look for a thread's storage, and returns in
the child to what lies on top of the new stack. Memory that the order leads to is never freed: the maker ends without doing so.

Whoever may trace this child sees and changes its maker's memory: it is for where nobody may (``boxrun.container.onlookers``).
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, PAGESIZE, PROT_EXEC, PROT_READ, mmap
from typing import Final

from boxrun.linux import process, syscalls, vfork

SUPPORTED: Final = vfork.SUPPORTED
"""Whether :func:`clone` can be called here: it takes what borrowing memory takes."""

PENDING, EXECUTING, REFUSED = 0, 1, 2
"""What the child says in its byte: nothing yet; the program is executed next; the kernel would not."""

_CLONE_VM: Final = 0x100
_STACK_TOP: Final = PAGESIZE - 16
_CODE: Final = bytes.fromhex(
    "4c89c3"  # mov rbx, r8
    "8b7b18"  # mov edi, [rbx+24]
    "488d7320"  # lea rsi, [rbx+32]
    "ba01000000"  # mov edx, 1
    "31c0"  # xor eax, eax
    "0f05"  # syscall
    "4883f8fc"  # cmp rax, -4
    "74ea"  # je word
    "4883f801"  # cmp rax, 1
    "752d"  # jne quit
    "807b2067"  # cmp byte [rbx+32], 'g'
    "7527"  # jne quit
    "b870000000"  # mov eax, 112
    "0f05"  # syscall
    "488b4b28"  # mov rcx, [rbx+40]
    "c60101"  # mov byte [rcx], 1
    "488b3b"  # mov rdi, [rbx]
    "488b7308"  # mov rsi, [rbx+8]
    "488b5310"  # mov rdx, [rbx+16]
    "b83b000000"  # mov eax, 59
    "0f05"  # syscall
    "488b4b28"  # mov rcx, [rbx+40]
    "c60102"  # mov byte [rcx], 2
    "bf01000000"  # quit: mov edi, 1
    "b8e7000000"  # mov eax, 231
    "0f05"  # syscall
)

# path, argv, envp, the word's descriptor, the word, the address of the byte: eight bytes each.
_ORDER: Final = ctypes.c_uint64 * 6

_page: Final = mmap(-1, PAGESIZE, flags=MAP_PRIVATE | MAP_ANONYMOUS)
_page.write(_CODE)
_code_address: Final = ctypes.addressof(ctypes.c_char.from_buffer(_page))
if syscalls.libc.mprotect(ctypes.c_void_p(_code_address), ctypes.c_size_t(PAGESIZE), PROT_READ | PROT_EXEC) < 0:
    syscalls.failed("mprotect a page of code")
_stack: Final = mmap(-1, PAGESIZE, flags=MAP_PRIVATE | MAP_ANONYMOUS)
_stack_address: Final = ctypes.addressof(ctypes.c_char.from_buffer(_stack))
ctypes.c_uint64.from_address(_stack_address + _STACK_TOP).value = _code_address


# What children read once they have their word, which is after the caller has ended: as long as there is this memory.
_kept: Final[list[object]] = []


def clone(number: ctypes.c_int, path: bytes, args: Sequence[bytes], env: Sequence[bytes], *, word_fd: int, said: int) -> None:
    """Make the child, as this process's sibling (CLONE_PARENT). The caller ends soon after, by ``os._exit``.

    Args:
        number: where the kernel puts its number.
        path: the program.
        args: its arguments.
        env: its environment, ``NAME=value``.
        word_fd: where a ``g`` comes through that lets the program be executed; anything else, or the end, ends the child.
        said: the address of the byte that the child says in how far it is.

    Raises:
        OSError: clone failed.
    """
    argv = (ctypes.c_char_p * (len(args) + 1))(*args)
    envp = (ctypes.c_char_p * (len(env) + 1))(*env)
    name = ctypes.c_char_p(path)
    order = _ORDER(
        ctypes.cast(name, ctypes.c_void_p).value or 0, ctypes.addressof(argv), ctypes.addressof(envp), word_fd, 0, said
    )
    _kept.append((argv, envp, name, order))
    flags = _CLONE_VM | process.CLONE_PARENT | process.CLONE_PARENT_SETTID
    stack = ctypes.c_void_p(_stack_address + _STACK_TOP)
    syscalls.call("clone", syscalls.CLONE, flags, stack, ctypes.byref(number), None, ctypes.c_void_p(ctypes.addressof(order)))
