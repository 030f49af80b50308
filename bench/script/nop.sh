#!/bin/sh
# The same disk as nop.ts, for nbdkit's sh plugin, which wants the data written.
case "$1" in
  thread_model) echo parallel ;;
  get_size) echo 1G ;;
  can_write) exit 3 ;;
  pread) exec head -c "$3" /dev/zero ;;
  *) exit 2 ;;
esac
