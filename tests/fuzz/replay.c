/*
 * main() of a fuzz target that is not built with libFuzzer: gives every file of the named folders
 * to the target once. A target that survives its whole corpus passes; an empty corpus fails, for it
 * shows nothing.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void replay_file(int folder, const char *name)
{
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) != 0)
        die(name);

    /* Exactly as large as the input, so that a sanitizer sees a read of one byte too many. */
    size_t size = (size_t)st.st_size;
    uint8_t *data = malloc(size ? size : 1);
    if (!data || read(fd, data, size) != (ssize_t)size)
        die(name);
    close(fd);

    LLVMFuzzerTestOneInput(data, size);
    free(data);
}

static int replay_folder(const char *path)
{
    DIR *folder = opendir(path);
    struct dirent *entry;
    int count = 0;

    if (!folder)
        die(path);
    while ((entry = readdir(folder))) {
        if (entry->d_name[0] == '.')
            continue;
        replay_file(dirfd(folder), entry->d_name);
        count++;
    }
    closedir(folder);
    return count;
}

int main(int argc, char **argv)
{
    int count = 0;

    for (int i = 1; i < argc; i++)
        count += replay_folder(argv[i]);
    printf("%d inputs\n", count);
    return count ? 0 : 1;
}
