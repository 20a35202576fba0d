"""Change the mode, times, owner or attributes of a file of our own user's, lock it, move it."""

from __future__ import annotations

import ctypes
import fcntl
import os

# x86-64
CHMOD, FCHMODAT, FCHMODAT2, CHOWN, LCHOWN, FCHOWNAT = 90, 268, 452, 92, 94, 260
UTIME, UTIMES, FUTIMESAT, UTIMENSAT = 132, 235, 261, 280
SETXATTR, LSETXATTR, SETXATTRAT, FILE_SETATTR = 188, 189, 463, 469
TRUNCATE, RENAME, LINK, SYMLINK, MKNOD, MKDIR, UNLINK = 76, 82, 86, 88, 133, 83, 87
INOTIFY_INIT, INOTIFY_ADD_WATCH, IN_ALL = 294, 254, 0xFFF
AT_FDCWD, MODE, FIFO = -100, 0o4755, 0o10644
FS_IOC_SETFLAGS, NODUMP = 0x40086602, 0x40


def handler(metadata):
    libc = ctypes.CDLL(None, use_errno=True)
    path = metadata["owned"].encode()
    new = path + b".new"
    worked = []

    def trying(name, *call):
        if libc.syscall(*call) >= 0:
            worked.append(name)

    trying("chmod", CHMOD, path, MODE)
    trying("fchmodat", FCHMODAT, AT_FDCWD, path, MODE)
    trying("fchmodat2", FCHMODAT2, AT_FDCWD, path, MODE, 0)
    trying("chown", CHOWN, path, os.getuid(), os.getgid())
    trying("lchown", LCHOWN, path, os.getuid(), os.getgid())
    trying("fchownat", FCHOWNAT, AT_FDCWD, path, os.getuid(), os.getgid(), 0)
    trying("utime", UTIME, path, None)
    trying("utimes", UTIMES, path, None)
    trying("futimesat", FUTIMESAT, AT_FDCWD, path, None)
    trying("utimensat", UTIMENSAT, AT_FDCWD, path, None, 0)
    trying("setxattr", SETXATTR, path, b"user.left", b"x", 1, 0)
    trying("lsetxattr", LSETXATTR, path, b"user.left", b"x", 1, 0)
    given = (ctypes.c_uint64 * 2)(ctypes.addressof(ctypes.create_string_buffer(b"x")), 1)
    trying("setxattrat", SETXATTRAT, AT_FDCWD, path, 0, b"user.left", given, 16)
    trying("file_setattr", FILE_SETATTR, AT_FDCWD, path, (ctypes.c_uint32 * 6)(), 24, 0)
    trying("truncate", TRUNCATE, path, 1)
    trying("link", LINK, path, new)
    trying("symlink", SYMLINK, path, new + b"1")
    trying("mknod", MKNOD, new + b"2", FIFO, 0)
    trying("mkdir", MKDIR, new + b"3", 0o755)
    watch = libc.syscall(INOTIFY_INIT, 0)
    trying("inotify", INOTIFY_ADD_WATCH, watch, os.path.dirname(path), IN_ALL)
    for flags in (os.O_RDONLY, os.O_PATH):
        try:
            opened = os.open(path, flags)
        except OSError:
            continue
        for name, call in (("fchmod", lambda fd: os.fchmod(fd, 0o755)),
                           ("futimens", lambda fd: os.utime(fd)),
                           ("flock", lambda fd: fcntl.flock(fd, fcntl.LOCK_EX)),
                           ("lease", lambda fd: fcntl.fcntl(fd, fcntl.F_SETLEASE, 0)),
                           ("by /proc", lambda fd: os.chmod(f"/proc/self/fd/{fd}", 0o755)),
                           ("flags", lambda fd: fcntl.ioctl(
                               fd, FS_IOC_SETFLAGS, NODUMP.to_bytes(8, "little")))):
            try:
                call(opened)
            except OSError:
                continue
            worked.append(name)
        os.close(opened)
    trying("rename", RENAME, path, new + b"4")
    trying("unlink", UNLINK, path)
    return {"score": 1.0 if worked else 0.0, "metadata": {"worked": worked}}
