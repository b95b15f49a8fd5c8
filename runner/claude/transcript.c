#include "runner/claude/transcript.h"

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "runner/claude/claude.h"
#include "runner/claude/clean_line.h"
#include "runner/claude/conversation.h"
#include "json/json.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES (16u << 20)
#define AGENTS_MAX 1000
#define SUFFIX ".jsonl"

static void auto_lines(FILE **file)
{
    if (*file)
        fclose(*file);
}

/* Appends one line to out without secrets; `agent` is NULL for the conversation itself. False, with
 * nothing appended, when the line is not JSON or too long. */
static bool print_line(const char *line, size_t len, const char *agent, struct redact_set *redact,
                       struct buf *out)
{
    struct err ignored;
    AUTO(buf) struct buf clean = BUF_INIT(2 * LINE_MAX_BYTES);
    if (len == 0 || len > LINE_MAX_BYTES || json_check(line, len, &ignored))
        return false;
    if (clean_line(redact, line, len, &clean)) {
        line = buf_str(&clean);
        len = clean.len;
    }
    if (agent) {
        buf_adds(out, "{\"type\":\"subagent_transcript\",\"agent\":\"");
        str_add_json(out, agent, strlen(agent));
        buf_adds(out, "\",\"entry\":");
    }
    buf_add(out, line, len);
    buf_adds(out, agent ? "}\n" : "\n");
    return buf_ok(out);
}

/* Copies the lines of one file; a missing file has none. */
static int copy_lines(const char *path, const char *agent, struct redact_set *redact, int to,
                      struct err *err)
{
    AUTO(str) char *line = NULL;
    size_t room = 0;
    ssize_t n;
    AUTO(fd) int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT || errno == ELOOP ? 0 : err_sys(err, "cannot read '%s'", path);
    __attribute__((cleanup(auto_lines))) FILE *file = fdopen(fd, "r");
    if (!file)
        return err_sys(err, "cannot read '%s'", path);
    fd = -1; /* The stream closes it. */
    while ((n = getline(&line, &room, file)) > 0) {
        AUTO(buf) struct buf out = BUF_INIT(3 * LINE_MAX_BYTES);
        size_t len = (size_t)n - (line[n - 1] == '\n');
        if (print_line(line, len, agent, redact, &out) && fd_write_all(to, out.data, out.len))
            return err_sys(err, "cannot write the transcript");
    }
    return 0;
}

static int is_agent(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name), suffix = strlen(SUFFIX);
    return entry->d_name[0] != '.' && len > suffix &&
           strcmp(entry->d_name + len - suffix, SUFFIX) == 0;
}

static int copy_agents(const char *dir, struct redact_set *redact, int to, struct err *err)
{
    struct dirent **entries = NULL;
    int rc = 0, count = scandir(dir, &entries, is_agent, alphasort);
    for (int i = 0; i < count; i++) {
        AUTO(str) char *path = path_join(dir, entries[i]->d_name);
        AUTO(str)
        char *agent = str_copy(entries[i]->d_name, strlen(entries[i]->d_name) - strlen(SUFFIX));
        if (!path || !agent)
            rc = err_sys(err, "transcript");
        else if (rc == 0 && i < AGENTS_MAX)
            rc = copy_lines(path, agent, redact, to, err);
        free(entries[i]);
    }
    free(entries);
    return rc;
}

static int is_project(const struct dirent *entry)
{
    return entry->d_name[0] != '.' && entry->d_type == DT_DIR;
}

/* Copies a conversation and its subagents from one project's folder. */
static int copy_project(const char *folder, const char *conversation, struct redact_set *redact,
                        int to, struct err *err)
{
    AUTO(str) char *lines = NULL;
    AUTO(str) char *agents = NULL;
    if (asprintf(&lines, "%s/%s" SUFFIX, folder, conversation) < 0)
        lines = NULL;
    if (asprintf(&agents, "%s/%s/subagents", folder, conversation) < 0)
        agents = NULL;
    if (!lines || !agents)
        return err_sys(err, "transcript");
    return copy_lines(lines, NULL, redact, to, err) || copy_agents(agents, redact, to, err) ? -1
                                                                                            : 0;
}

int transcript_keep(const char *state_dir, const char *conversation, const char *keep_dir,
                    struct redact_set *redact, struct err *err)
{
    struct dirent **projects = NULL;
    AUTO(str) char *path = path_join(keep_dir, TRANSCRIPT_FILE);
    AUTO(str) char *place = NULL;
    if (asprintf(&place, "%s/" CONVERSATIONS "/%s", state_dir, conversation) < 0)
        place = NULL;
    AUTO(fd)
    int to = path && place ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600)
                           : -1;
    if (to < 0)
        return err_sys(err, "cannot write the transcript");
    int rc = 0, count = scandir(place, &projects, is_project, alphasort);
    for (int i = 0; i < count; i++) {
        AUTO(str) char *folder = path_join(place, projects[i]->d_name);
        if (rc == 0)
            rc = folder ? copy_project(folder, conversation, redact, to, err)
                        : err_sys(err, "transcript");
        free(projects[i]);
    }
    free(projects);
    return rc;
}
