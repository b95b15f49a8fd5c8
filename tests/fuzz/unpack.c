/* Whatever an archive holds, gzipped or not: what is unpacked lies below its directory, no link
 * leads out of it, and nothing beside it is touched. */
#include "pack/unpack.h"
#include "base/path.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BYTES_MAX (1 << 20)
#define PIECE 700 /* entries are cut anywhere */

struct input {
    const uint8_t *data;
    size_t left;
};

static int64_t bytes;

static void must(bool holds)
{
    if (!holds)
        abort();
}

static ssize_t next(void *to, size_t max, void *arg, struct err *err)
{
    struct input *input = arg;
    size_t n = input->left < max ? input->left : max;
    (void)err;
    n = n < PIECE ? n : PIECE;
    memcpy(to, input->data, n);
    input->data += n;
    input->left -= n;
    return (ssize_t)n;
}

/* A link's parts, followed by name, never lead above the directory. */
static int look(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    char target[4096];
    (void)kind;
    must(S_ISREG(st->st_mode) || S_ISDIR(st->st_mode) || S_ISLNK(st->st_mode));
    must((st->st_mode & 07000) == 0);
    if (S_ISREG(st->st_mode) && st->st_nlink == 1)
        bytes += st->st_size;
    if (!S_ISLNK(st->st_mode))
        return 0;
    ssize_t n = readlink(path, target, sizeof(target) - 1);
    must(n > 0 && target[0] != '/');
    target[n] = '\0';
    int depth = ftw->level - 1;
    for (char *save = NULL, *part = strtok_r(target, "/", &save); part;
         part = strtok_r(NULL, "/", &save)) {
        depth += strcmp(part, "..") == 0 ? -1 : strcmp(part, ".") == 0 ? 0 : 1;
        must(depth >= 0);
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = ERR_INIT;
    struct unpack_result result;
    char top[] = "/tmp/fuzz-unpack-XXXXXX", inside[64];
    struct input input = {data, size};
    const struct unpack_limits limits = {.bytes = BYTES_MAX, .entries = 1000, .ratio = 200};
    must(mkdtemp(top) != NULL);
    snprintf(inside, sizeof(inside), "%s/in", top);
    must(mkdir(inside, 0700) == 0);
    int dir = open(inside, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = unpack_below(dir, next, &input, &limits, &result, &err);
    close(dir);
    must(rc == 0 || err.msg[0]);
    bytes = 0;
    must(nftw(inside, look, 64, FTW_PHYS) == 0);
    must(bytes <= BYTES_MAX + PIECE * 1024);
    int others = 0;
    DIR *list = opendir(top);
    for (struct dirent *entry; (entry = readdir(list));)
        others += entry->d_name[0] != '.' && strcmp(entry->d_name, "in") != 0;
    closedir(list);
    must(others == 0);
    must(path_remove_tree(top, &err) == 0);
    return 0;
}
