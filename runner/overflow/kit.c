#include "runner/overflow/kit.h"

#include "base/check.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "base/strlist.h"
#include "crypto/crypto.h"
#include "google/storage.h"
#include "runner/version.h"

#include <elf.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_BYTES_MAX (256u << 20)
#define LOADER KIT_MOUNT "/ld.so"
#define CERTIFICATES "/etc/ssl/certs/ca-certificates.crt"
#define DONE "complete" /* written last: when it exists, the kit is complete */

static const char start[] =
    "#!/bin/sh\n"
    "# Runs the worker out of the mounted bucket (runner/overflow/kit.h).\n"
    "export LD_LIBRARY_PATH=" KIT_MOUNT "/lib\n"
    "[ -e " CERTIFICATES " ] || export SSL_CERT_FILE=" KIT_MOUNT "/certs.pem\n"
    "exec " KIT_MOUNT "/claude-runner job \"$@\"\n";

/* --- its name ------------------------------------------------------------------------------ */

static char name[128];

static void make_name(void)
{
    struct err ignored;
    unsigned char digest[CRYPTO_SHA256_SIZE];
    AUTO(buf) struct buf program = BUF_INIT(FILE_BYTES_MAX), hex = BUF_INIT(64);
    if (file_read("/proc/self/exe", &program, &ignored))
        buf_clear(&program);
    crypto_sha256(buf_str(&program), program.len, digest);
    str_add_hex(&hex, digest, 6);
    snprintf(name, sizeof(name), "worker/" RUNNER_VERSION "-%s", buf_str(&hex));
}

const char *kit_name(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_name);
    return name;
}

/* --- its files ----------------------------------------------------------------------------- */

/* The loader that the program names; NULL when it is not linked dynamically. */
static char *find_interpreter(struct buf *program, size_t *ret_size)
{
    const ElfW(Ehdr) *head = (const ElfW(Ehdr) *)(const void *)program->data;
    if (program->len < sizeof(*head) || memcmp(head->e_ident, ELFMAG, SELFMAG) != 0)
        return NULL;
    for (size_t i = 0; i < head->e_phnum; i++) {
        ElfW(Phdr) part;
        size_t at = head->e_phoff + i * sizeof(part);
        if (at + sizeof(part) > program->len)
            return NULL;
        memcpy(&part, program->data + at, sizeof(part));
        if (part.p_type != PT_INTERP)
            continue;
        if (part.p_offset + part.p_filesz > program->len)
            return NULL;
        *ret_size = part.p_filesz;
        return program->data + part.p_offset;
    }
    return NULL;
}

/* Passes on the program, with the path of its loader in the kit. */
static int put_program(kit_file_fn *fn, void *arg, char **ret_loader, struct err *err)
{
    size_t size = 0;
    AUTO(buf) struct buf program = BUF_INIT(FILE_BYTES_MAX);
    if (file_read("/proc/self/exe", &program, err))
        return -1;
    char *at = find_interpreter(&program, &size);
    if (!at || size < sizeof(LOADER))
        return err_set(err, ERR_INTERNAL, "this program's loader cannot be changed");
    *ret_loader = str_copy(at, strnlen(at, size));
    memset(at, 0, size);
    memcpy(at, LOADER, sizeof(LOADER));
    return *ret_loader ? fn("claude-runner", program.data, program.len, arg, err)
                       : err_sys(err, "the loader");
}

static int put_file(const char *path, const char *as, kit_file_fn *fn, void *arg, struct err *err)
{
    AUTO(buf) struct buf file = BUF_INIT(FILE_BYTES_MAX);
    return file_read(path, &file, err) ? -1 : fn(as, buf_str(&file), file.len, arg, err);
}

static int note_library(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    if (info->dlpi_name && info->dlpi_name[0] == '/')
        strlist_add(arg, info->dlpi_name);
    return 0;
}

static int put_libraries(kit_file_fn *fn, void *arg, struct err *err)
{
    AUTO(strlist) struct strlist paths = STRLIST_INIT;
    dl_iterate_phdr(note_library, &paths);
    if (paths.failed)
        return err_sys(err, "libraries");
    for (size_t i = 0; i < paths.count; i++) {
        char as[300];
        snprintf(as, sizeof(as), "lib/%.250s", strrchr(paths.items[i], '/') + 1);
        if (put_file(paths.items[i], as, fn, arg, err))
            return -1;
    }
    return 0;
}

int kit_each(kit_file_fn *fn, void *arg, struct err *err)
{
    REQUIRE(fn);
    AUTO(str) char *loader = NULL;
    const bool certified = access(CERTIFICATES, R_OK) == 0;
    if (put_program(fn, arg, &loader, err) || put_file(loader, "ld.so", fn, arg, err) ||
        put_libraries(fn, arg, err) || fn(KIT_START, start, sizeof(start) - 1, arg, err))
        return -1;
    if (certified && put_file(CERTIFICATES, "certs.pem", fn, arg, err))
        return -1;
    return fn(DONE, "", 0, arg, err);
}

/* --- in the bucket ------------------------------------------------------------------------- */

static int upload(const char *file, const void *data, size_t len, void *arg, struct err *err)
{
    const struct cloud *cloud = arg;
    AUTO(buf) struct buf whole = BUF_INIT(1024);
    buf_addf(&whole, "%s/%s", kit_name(), file);
    const struct storage_at at = {cloud->bucket, buf_str(&whole), NULL, STORAGE_ANY};
    return storage_put(cloud->google, &at, data, len, NULL, err);
}

int kit_publish(const struct cloud *cloud, struct err *err)
{
    AUTO(storage_object) struct storage_object there = {0};
    char done[160];
    snprintf(done, sizeof(done), "%s/" DONE, kit_name());
    if (storage_stat(cloud->google, cloud->bucket, done, &there, err) == 0)
        return 0;
    if (err->code != ERR_NOT_FOUND)
        return -1;
    /* Two uploads at once write the same bytes to the same names. */
    return kit_each(upload, (void *)(uintptr_t)cloud, err);
}
