# The same disk as nop.ts, for nbdkit's Python plugin. `import nbdkit` works inside of nbdkit alone.
import nbdkit

API_VERSION = 2


def thread_model():
    return nbdkit.THREAD_MODEL_PARALLEL


def open(readonly):
    return None


def get_size(handle):
    return 1 << 30


def can_write(handle):
    return False


def pread(handle, into, offset, flags):
    pass
