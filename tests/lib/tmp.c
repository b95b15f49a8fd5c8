#include "testbase.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

char *textf(const char *format, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&text, format, args);
    va_end(args);
    assert_true(n >= 0);
    return text;
}

char *tmp_dir_new(void)
{
    const char *base = getenv("TMPDIR");
    char *path = textf("%s/cr-test.XXXXXX", base ? base : "/tmp");
    assert_non_null(mkdtemp(path));
    assert_int_equal(chmod(path, 0755), 0);
    return path;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st;
    (void)kind;
    (void)ftw;
    remove(path);
    return 0;
}

void tmp_dir_free(char *path)
{
    if (path)
        nftw(path, remove_one, 32, FTW_DEPTH | FTW_PHYS);
    free(path);
}

char *read_file(const char *path, size_t *ret_size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    size_t size = 0, cap = 65536;
    char *data = malloc(cap + 1);
    ssize_t n;
    while (data && (n = read(fd, data + size, cap - size)) > 0) {
        size += (size_t)n;
        if (size == cap)
            data = realloc(data, (cap *= 2) + 1);
    }
    close(fd);
    assert_non_null(data);
    data[size] = '\0';
    if (ret_size)
        *ret_size = size;
    return data;
}

void write_file(const char *path, const char *content, unsigned mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, strlen(content)), strlen(content));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

void write_bytes(const char *path, const void *data, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, size), size);
    close(fd);
}

void file_copy_program(const char *from, const char *to)
{
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    struct stat st;
    assert_true(in >= 0 && out >= 0 && fstat(in, &st) == 0);
    for (off_t at = 0; at < st.st_size;)
        assert_true(sendfile(out, in, &at, (size_t)(st.st_size - at)) > 0);
    close(in);
    close(out);
    assert_int_equal(chmod(to, 0755), 0);
}

long file_size(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (long)st.st_size : -1;
}
