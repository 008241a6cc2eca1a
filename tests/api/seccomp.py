"""A sandbox for a child process (preexec_fn): one system call is not there, as under a service manager's filter or an old kernel."""
import ctypes
import errno
import platform
import struct

OPENAT2 = 437
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06  # BPF: load word, compare with a constant, return a constant


def without(syscall=OPENAT2):
    """-> preexec_fn. The number is the same on every architecture we build for."""
    assert platform.machine() in ("x86_64", "aarch64")
    code = b"".join(struct.pack("HBBI", *i) for i in (
        (LOAD, 0, 0, 0), (JUMP_EQUAL, 0, 1, syscall), (RETURN, 0, 0, ERRNO | errno.ENOSYS), (RETURN, 0, 0, ALLOW)))
    libc = ctypes.CDLL(None, use_errno=True)
    filters = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(filters)))

    def apply(keep=(filters,)):
        if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0):
            raise OSError(ctypes.get_errno(), "seccomp")
    return apply
