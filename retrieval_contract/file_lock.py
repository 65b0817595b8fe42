"""A lock on an open file that the kernel drops when its process ends, however it ends."""

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

HAS_LOCKS = fcntl is not None
"""False where this system has no such locks: then none is held, and every one is given."""


def try_lock(descriptor: int) -> bool:
    """Lock an open file or folder against every other opening of it, of this process too; False where one holds it.

    A disk that knows no locks (some network disks) gives every one.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
