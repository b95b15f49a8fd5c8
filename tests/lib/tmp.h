/*
 * Files of a test.
 */
#ifndef TESTLIB_TMP_H
#define TESTLIB_TMP_H

#include <stddef.h>

/* A fresh directory that any user may enter (tasks run as another user). Removed with all that is
 * in it by tmp_dir_free. */
char *tmp_dir_new(void);
void tmp_dir_free(char *path);

/* A formatted string; the caller frees it. */
char *textf(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The file's content, NUL-terminated, or NULL. The caller frees it. */
char *read_file(const char *path, size_t *ret_size);

/* Writes the file with this mode, or fails the test. */
void write_file(const char *path, const char *content, unsigned mode);

/* The same with these bytes, readable by its owner only. */
void write_bytes(const char *path, const void *data, size_t size);

/* Copies a program, so that its processes can be told from all others by their file. */
void file_copy_program(const char *from, const char *to);

/* The file's size, -1 when it does not exist. */
long file_size(const char *path);

#endif
