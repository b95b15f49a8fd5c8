/* bench-bundle PATH OUT: packs PATH as the client does, and prints the digest. */
#include "pack/bundle.h"

#include <fcntl.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    const struct bundle_options options = {.level = BUNDLE_LEVEL};
    struct bundle bundle;
    struct err err;
    int out = argc == 3 ? open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    if (out < 0 || bundle_write(argv[1], &options, out, &bundle, &err)) {
        fprintf(stderr, "bench-bundle: %s\n", out < 0 ? "PATH OUT" : err.msg);
        return 1;
    }
    puts(bundle.sha256);
    return 0;
}
