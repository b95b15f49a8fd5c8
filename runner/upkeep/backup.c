/*
 * `claude-runner backup FILE`: a copy of what lasts, also while the runner runs.
 *
 * The database is copied first, in one transaction of SQLite's; the files that it speaks of are
 * read after it. They only grow, so that the copy is a state which a crash at that moment could
 * have left: the start after a restore treats it so.
 */
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "db/db.h"
#include "runner/upkeep/copies.h"
#include "runner/upkeep/gnutar.h"
#include "runner/upkeep/machine.h"
#include "runner/upkeep/upkeep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define CREDENTIALS_MAX (1u << 20)

static const char usage[] =
    "usage: claude-runner backup [--with-secrets] [--env-file FILE] FILE\n"
    "\n"
    "Copies what lasts (tasks and what they printed, conversations, sessions, snapshots, inputs)\n"
    "into a tar archive; the runner may go on meanwhile. A name that ends with .gz or .zst is\n"
    "packed so; - is standard output. Mirrors of repositories are left out: they are fetched "
    "again.\n"
    "\n"
    "  --with-secrets    also the login, and the key of what tasks that wait were given in "
    "secret:\n"
    "                    whoever has the archive can use them then\n"
    "  --env-file FILE   the service's settings; default: /etc/claude-runner.env, else ./.env\n";

/* Parts of the state folder that are no part of a backup: what is made again, and the database,
 * which is there as a copy. */
static const char *const left_out[] = {
    "run",           "repos",          "python",        "probe",         "no-login",
    "lock",          "runner.db",      "runner.db-shm", "runner.db-wal", "login",
    "backup.??????", "restore.??????", "*.new",
};

struct backup {
    const struct config *config;
    bool with_secrets;
    char *place; /* a folder for the copies that are made here */
};

static void auto_backup(struct backup *backup)
{
    struct err ignored;
    if (backup->place)
        path_remove_tree(backup->place, &ignored);
    free(backup->place);
}

static int copy_database(const struct backup *backup, struct err *err)
{
    AUTO(str) char *from = path_join(backup->config->state_dir, "runner.db");
    AUTO(str) char *to = path_join(backup->place, BACKUP_DATABASE);
    if (!from || !to)
        return err_sys(err, "backup");
    AUTO(db) struct db *db = db_open(from, DB_READ, err);
    if (!db || db_copy(db, to, err))
        return err_wrap(err, "the database");
    return 0;
}

static int copy_login(const struct backup *backup, struct err *err)
{
    AUTO(buf_wipe) struct buf text = BUF_INIT(CREDENTIALS_MAX);
    AUTO(str) char *from = path_join(backup->config->claude_config_dir, ".credentials.json");
    AUTO(str) char *to = path_join(backup->place, BACKUP_CREDENTIALS);
    if (!from || !to)
        return err_sys(err, "backup");
    if (file_read(from, &text, err))
        return err->code == ERR_NOT_FOUND ? 0 : -1;
    return file_replace(to, text.data, text.len, 0600, err);
}

static int pack(const struct backup *backup, const char *file, struct err *err)
{
    AUTO(strlist) struct strlist words = STRLIST_INIT;
    strlist_add(&words, "--create");
    if (strcmp(file, "-") != 0)
        strlist_add(&words, "--auto-compress");
    strlist_addf(&words, "--file=%s", file);
    static const char *const always[] = {"--sparse",
                                         "--xattrs",
                                         "--xattrs-include=*",
                                         "--one-file-system",
                                         "--force-local",
                                         "--numeric-owner",
                                         "--warning=no-file-ignored",
                                         "--warning=no-file-changed",
                                         "--warning=no-file-removed"};
    for (size_t i = 0; i < COUNT_OF(always); i++)
        strlist_add(&words, always[i]);
    strlist_addf(&words, "--directory=%s", backup->place);
    strlist_add(&words, ".");
    strlist_add(&words, "--anchored");
    strlist_add(&words, "--no-wildcards-match-slash");
    for (size_t i = 0; i < COUNT_OF(left_out); i++)
        strlist_addf(&words, "--exclude=./%s", left_out[i]);
    if (!backup->with_secrets)
        strlist_add(&words, "--exclude=./secret.key");
    strlist_addf(&words, "--directory=%s", backup->config->state_dir);
    strlist_add(&words, ".");
    return gnutar_run(&words, err);
}

static int make(struct backup *backup, const char *file, struct err *err)
{
    AUTO(str) char *place = path_join(backup->config->state_dir, "backup.XXXXXX");
    if (!place || !mkdtemp(place))
        return err_sys(err, "cannot make a folder in '%s'", backup->config->state_dir);
    backup->place = STEAL_PTR(place);
    AUTO(str) char *copies = path_join(backup->place, BACKUP_COPIES);
    if (!copies || mkdir(copies, 0700))
        return err_sys(err, "backup");
    if (copy_database(backup, err) || (backup->with_secrets && copy_login(backup, err)))
        return -1;
    return pack(backup, file, err);
}

int upkeep_backup(int argc, char **argv)
{
    struct err err;
    int status;
    struct upkeep_options options = {.usage = usage};
    AUTO(config) struct config *config = upkeep_settings(argc, argv, &options, &status);
    if (!config)
        return status;
    if (!options.argument || options.test) {
        fputs(usage, stderr);
        return 2;
    }
    __attribute__((cleanup(auto_backup))) struct backup backup = {
        .config = config, .with_secrets = options.with_secrets};
    umask(077);
    return make(&backup, options.argument, &err) ? upkeep_failed("backup", &err) : 0;
}
