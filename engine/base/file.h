/* file: opening and reading regular files of a directory, whole and checked. Any thread.
 *
 * Sizes come from fstat of the open descriptor and are compared with a cap before memory is taken.
 * Fifos, devices and directories are refused without blocking. e->param is the file's name as it
 * was given.
 */
#ifndef CHORUS_BASE_FILE_H
#define CHORUS_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

/* What one open file looked like: equal stamps mean the same bytes, as far as a file system says.
 */
struct file_stamp {
    uint64_t device;
    uint64_t inode;
    uint64_t bytes;
    int64_t changed_ns; /* of mtime or ctime, whichever is later */
};

/* Where relative names are looked up. */
struct file_root {
    int fd;       /* a directory; owned */
    int top_fd;   /* the outermost root that this one was opened in; owned; -1: none */
    bool beneath; /* names that lead out of the outermost root (.., symbolic links) are refused */
};

/* Opens directory `path` as a root. STATUS_NOT_FOUND, STATUS_IO; STATUS_BAD_FILE if it is not a
 * directory. */
WARN_UNUSED enum status file_root_open(const char *path, bool beneath, struct file_root *out,
                                       struct err *e);
/* As file_root_open for a directory of `parent`; the new root is beneath where the parent is, and
 * its links may lead to whatever lies in the parent. */
WARN_UNUSED enum status file_root_open_in(const struct file_root *parent, const char *name,
                                          struct file_root *out, struct err *e);
void file_root_close(struct file_root *root);

/* Opens a regular file for reading; the caller closes *fd. STATUS_NOT_FOUND when it does not exist,
 * STATUS_BAD_FILE when it is no regular file or lies outside, else STATUS_IO. `stamp` may be NULL.
 */
WARN_UNUSED enum status file_open(const struct file_root *root, const char *name, int *fd,
                                  struct file_stamp *stamp, struct err *e);
/* Stamp of the file that the name leads to now. */
WARN_UNUSED enum status file_stamp_of(const struct file_root *root, const char *name,
                                      struct file_stamp *out, struct err *e);
bool file_stamp_equal(const struct file_stamp *a, const struct file_stamp *b);
/* True when a regular file of this name can be opened. */
bool file_exists(const struct file_root *root, const char *name);

/* Bytes of `name` before `ending`; 0: it does not end so, or holds nothing else. */
size_t file_stem(const char *name, const char *ending);

/* Exactly n bytes from offset `at`; a shorter file is STATUS_BAD_FILE. `name` is for the message.
 */
WARN_UNUSED enum status file_pread(int fd, const char *name, void *out, size_t n, uint64_t at,
                                   struct err *e);
/* The whole file in memory, with a terminator behind it; the caller frees *out with mem_free.
 * STATUS_LIMIT above max_bytes. `stamp` may be NULL. */
WARN_UNUSED enum status file_read(const struct file_root *root, const char *name, size_t max_bytes,
                                  char **out, size_t *n, struct file_stamp *stamp, struct err *e);

#endif
