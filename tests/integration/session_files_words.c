/*
 * The files of a session, sentence by sentence of the contract: a table of requests for each, with
 * what has to be answered. All requests of a table work on the same files, in their order.
 */
#include "session.h"
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct runner *shared;

static struct runner *get(void)
{
    static const char *const settings[] = {"SESSIONS_MAX", "2", NULL};
    return runner_shared(&shared, settings);
}

static int start(void **state)
{
    (void)state;
    session_make(get(), "w");
    return 0;
}

/* `body` of a POST is JSON, of a PUT the file; `says` is in the answer's head or body, and what
 * begins with '!' is not; `field` is the one that an error names. */
struct ask {
    const char *method, *path, *headers, *body;
    int status;
    const char *says, *field;
};

static struct reply *send_ask(const struct ask *ask, const char *headers)
{
    char *path = textf("/sessions/w/%s", ask->path);
    bool json = strcmp(ask->method, "POST") == 0;
    char *all = textf(RUNNER_AUTH "%s%s", json ? "Content-Type: application/json\r\n" : "",
                      headers ? headers : "");
    struct reply *reply = http_call(get()->base, ask->method, path, all, ask->body);
    free(path);
    free(all);
    return reply;
}

static bool says(const struct reply *reply, const char *text)
{
    bool not = *text == '!';
    text += not ;
    return (strstr(reply->head, text) || strstr(reply->body, text)) != not ;
}

static bool names(const struct reply *reply, const char *field)
{
    const cJSON *errors = cJSON_GetObjectItem(reply->json, "errors");
    const cJSON *name = cJSON_GetObjectItem(cJSON_GetArrayItem(errors, 0), "field");
    const cJSON *why = cJSON_GetObjectItem(cJSON_GetArrayItem(errors, 0), "message");
    return cJSON_IsString(name) && strcmp(name->valuestring, field) == 0 && cJSON_IsString(why) &&
           *why->valuestring;
}

static void check(const struct ask *ask, size_t at, const struct reply *reply)
{
    if (reply->status != ask->status || (ask->says && !says(reply, ask->says)) ||
        (ask->field && !names(reply, ask->field)))
        fail_msg("%zu: %s %s %s %.200s: wanted %d '%s' (%s), got %d\n%s%.600s", at, ask->method,
                 ask->path, ask->headers ? ask->headers : "", ask->body ? ask->body : "",
                 ask->status, ask->says ? ask->says : "", ask->field ? ask->field : "",
                 reply->status, reply->head, reply->body);
}

static void run(const struct ask *asks, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct reply *reply = send_ask(&asks[i], asks[i].headers);
        check(&asks[i], i, reply);
        reply_free(reply);
    }
}
#define RUN(asks) run(asks, COUNT(asks))

/* What the command prints. */
static void prints(const char *command, const char *out)
{
    struct done *done = session_run(get(), "w", command, "");
    if (strcmp(done->out, out) != 0)
        fail_msg("%s: '%s' '%s', not '%s'", command, done->out, done->err, out);
    done_free(done);
}

/* How many entries a directory has. */
static int count_entries(const char *path)
{
    char *whole = textf("/sessions/w/files?path=%s", path);
    struct reply *reply = runner_get(get(), whole);
    assert_status(reply, 200);
    int count = cJSON_GetArraySize(cJSON_GetObjectItem(reply->json, "entries"));
    reply_free(reply);
    free(whole);
    return count;
}

static char *url_encoded(const char *text)
{
    char *out = calloc(3, strlen(text) + 1);
    assert_non_null(out);
    for (size_t at = 0; *text; text++)
        at += (size_t)snprintf(out + at, 4, "%%%02X", (unsigned char)*text);
    return out;
}

static void paths_are_absolute_or_of_the_workspace(void **state)
{
    (void)state;
    static const struct ask asks[] = {
        {"PUT", "files/a/b/c", NULL, "one", 201, "\"path\":\"/workspace/a/b/c\"", NULL},
        {"PUT", "files/a/b/c", NULL, "two!", 200, "\"bytes_written\":4,\"created\":false", NULL},
        {"GET", "files//workspace/a/b/c", NULL, NULL, 200, "two!", NULL},
        {"GET", "files/%2Fworkspace%2Fa%2fb%2Fc", NULL, NULL, 200, "two!", NULL},
        {"GET", "files/a%2Fb%2Fc", NULL, NULL, 200, "two!", NULL},
        {"PUT", "files/%2Ftmp%2Fx%20y%25%C3%A9", NULL, "t", 201, "\"path\":\"/tmp/x y%", NULL},
        {"PUT", "files/back%5Cslash", NULL, "b", 201, "back\\\\slash", NULL},
        {"GET", "files/..%2F..%2Fetc%2Fpasswd", NULL, NULL, 400, "'..'", NULL},
        {"GET", "files/%2Fworkspace%2F..%2Fetc", NULL, NULL, 400, "'..'", NULL},
        {"GET", "files/a%0Ab", NULL, NULL, 400, "control character", NULL},
        {"GET", "shells%2Fdefault", NULL, NULL, 400, "encoded slash", NULL},
        {"HEAD", "files/a/b/c", NULL, NULL, 200, "Content-Length: 4", NULL},
        {"HEAD", "files/a/b", NULL, NULL, 200, NULL, NULL}, /* it exists */
        {"HEAD", "files/a/x", NULL, NULL, 404, NULL, NULL},
        {"GET", "files/a/b", NULL, NULL, 409, "is a directory", NULL},
        {"GET", "files/a/x", NULL, NULL, 404, "there is no '/workspace/a/x'", NULL},
        {"GET", "files/a/b/c/d", NULL, NULL, 404, NULL, NULL},
        {"POST", "files/a/b/c", NULL, "{}", 405, "Allow: GET, HEAD, PUT, DELETE", NULL},
    };
    RUN(asks);
    prints("cat '/tmp/x y%\303\251' 'back\\slash'; stat -c %a a a/b/c", "tb755\n644\n");
}

static void deleting_says_whether_there_was_anything(void **state)
{
    (void)state;
    static const struct ask asks[] = {
        {"DELETE", "files/a/b/c?x=1", NULL, NULL, 400, "unknown query parameter 'x'", "x"},
        {"DELETE", "files/a/b/c", "If-Match: \"other\"\r\n", NULL, 412, NULL, NULL},
        {"DELETE", "files/a/b/c", "If-Match: *\r\n", NULL, 200, "\"deleted\":true", NULL},
        {"DELETE", "files/a/b/c", "If-Match: *\r\n", NULL, 412, "If-Match", NULL},
        {"DELETE", "files/a/b/c", NULL, NULL, 200, "\"deleted\":false", NULL},
        {"DELETE", "files/none/of/it", NULL, NULL, 200, "\"deleted\":false", NULL},
        {"DELETE", "files/a", NULL, NULL, 200, "\"deleted\":true", NULL}, /* with all it holds */
        {"GET", "files?path=a", NULL, NULL, 404, NULL, NULL},
        {"DELETE", "files/out/x", NULL, NULL, 200, "\"deleted\":true", NULL},
        {"DELETE", "files/out", NULL, NULL, 200, "\"deleted\":true", NULL}, /* the link */
        {"DELETE", "files//etc/passwd", NULL, NULL, 403, "Read-only", NULL},
        {"DELETE", "files//workspace", NULL, NULL, 403, "stays", NULL},
    };
    prints("mkdir /tmp/far; touch /tmp/far/x /tmp/far/y; ln -s /tmp/far out", "");
    RUN(asks);
    prints("ls /tmp/far", "y\n");
}

static const struct ask parts[] = {
    {"PUT", "files/r", NULL, "0123456789", 201, "\"size\":10,\"etag\":\"", NULL},
    {"GET", "files/r", NULL, NULL, 200, "Accept-Ranges: bytes", NULL},
    {"GET", "files/r", "Range: bytes=2-4\r\n", NULL, 206, "234", NULL},
    {"GET", "files/r", "Range: bytes=2-4\r\n", NULL, 206, "Content-Range: bytes 2-4/10", NULL},
    {"GET", "files/r", "Range: bytes=-3\r\n", NULL, 206, "bytes 7-9/10", NULL},
    {"GET", "files/r", "Range: bytes=-99\r\n", NULL, 206, "bytes 0-9/10", NULL},
    {"GET", "files/r", "Range: bytes=7-\r\n", NULL, 206, "bytes 7-9/10", NULL},
    {"GET", "files/r", "Range: bytes=7-99\r\n", NULL, 206, "bytes 7-9/10", NULL},
    {"HEAD", "files/r", "Range: bytes=7-8\r\n", NULL, 206, "Content-Length: 2", NULL},
    {"GET", "files/r", "Range: bytes=10-\r\n", NULL, 416, "Content-Range: bytes */10", NULL},
    {"GET", "files/r", "Range: bytes=-0\r\n", NULL, 416, "bytes */10", NULL},
    {"GET", "files/r", "Range: bytes=4-2\r\n", NULL, 200, "0123456789", NULL},
    {"GET", "files/r", "Range: bytes=0-0,2-2\r\n", NULL, 200, "0123456789", NULL},
    {"GET", "files/r", "Range: lines=0-1\r\n", NULL, 200, "0123456789", NULL},
    {"GET", "files/r", "Range: Bytes=2-4\r\n", NULL, 206, "bytes 2-4/10", NULL},
    {"GET", "files/r", "Range: bytes=7-99999999999999999999999\r\n", NULL, 206, "bytes 7-9/10",
     NULL},
    {"GET", "files/r", "Range: bytes=-99999999999999999999999\r\n", NULL, 206, "bytes 0-9/10",
     NULL},
    {"GET", "files/r", "Range: bytes=99999999999999999999999-\r\n", NULL, 416, "*/10", NULL},
    {"PUT", "files/r", "Content-Range: bytes 0-0/10\r\n", "x", 400, "Content-Range", NULL},
    {"GET", "files/r", "If-Range: \"x\"\r\nRange: bytes=0-1\r\n", NULL, 200, "0123456", NULL},
    {"PUT", "files/r", "If-None-Match: *\r\n", "x", 412, "already", NULL},
    {"PUT", "files/r", "If-Match: \"x\"\r\n", "x", 412, "If-Match", NULL},
    {"PUT", "files/r?append=true", "If-Match: \"x\"\r\n", "x", 412, "If-Match", NULL},
    {"PUT", "files/new/dir/f", "If-Match: *\r\n", "x", 412, "If-Match", NULL},
    {"GET", "files?path=new", NULL, NULL, 404, NULL, NULL}, /* nothing was made for it */
    {"GET", "files/r", "If-None-Match: *\r\n", NULL, 304, NULL, NULL},
    {"PUT", "files/empty", NULL, "", 201, "\"size\":0", NULL},
    {"GET", "files/empty", NULL, NULL, 200, "Content-Length: 0", NULL},
    {"GET", "files/empty", "Range: bytes=0-\r\n", NULL, 416, "bytes */0", NULL},
};

static void parts_and_versions_of_a_file(void **state)
{
    (void)state;
    static const struct ask mine[] = {
        {"GET", "files/r", "If-Match: %s\r\n", NULL, 200, "0123456789", NULL},
        {"GET", "files/r", "If-None-Match: \"a\", %s\r\n", NULL, 304, NULL, NULL},
        {"GET", "files/r", "If-Range: %s\r\nRange: bytes=0-1\r\n", NULL, 206, "bytes 0-1/10", NULL},
        {"GET", "files/r", "If-None-Match: W/%s\r\n", NULL, 304, NULL, NULL},
        {"GET", "files/r", "If-Match: W/%s\r\n", NULL, 412, NULL, NULL},
        {"PUT", "files/r", "If-Match: W/%s\r\n", "x", 412, "If-Match", NULL},
        {"PUT", "files/r", "If-None-Match: W/%s\r\n", "x", 412, NULL, NULL},
        {"DELETE", "files/r", "If-Match: W/%s, \"a\"\r\n", NULL, 412, NULL, NULL},
        {"PUT", "files/r?append=true", "If-Match: %s\r\n", "a", 200, "\"size\":11,\"etag\":", NULL},
        {"GET", "files/r", "If-Match: %s\r\n", NULL, 412, "ETag", NULL}, /* it has changed */
        {"PUT", "files/r", "If-Match: %s\r\n", "x", 412, NULL, NULL},
        {"DELETE", "files/r", "If-Match: %s\r\n", NULL, 412, NULL, NULL},
    };
    char etag[128];
    RUN(parts);
    struct reply *reply =
        send_ask(&(struct ask){"HEAD", "files/r", NULL, NULL, 0, NULL, NULL}, NULL);
    assert_true(reply_header(reply, "ETag", etag, sizeof(etag)));
    reply_free(reply);
    for (size_t i = 0; i < COUNT(mine); i++) {
        const char *at = strstr(mine[i].headers, "%s");
        char *headers =
            textf("%.*s%s%s", (int)(at - mine[i].headers), mine[i].headers, etag, at + 2);
        check(&mine[i], i, reply = send_ask(&mine[i], headers));
        reply_free(reply);
        free(headers);
    }
}

/* A reader that has opened it reads the old one to its end; an upload that is cut off changes
 * nothing and leaves nothing. */
static void a_file_is_replaced_whole_or_not_at_all(void **state)
{
    (void)state;
    prints("mkdir whole; printf old >whole/file; ln whole/file whole/before", "");
    int fd = http_connect(get()->base);
    http_send_text(fd, "PUT /sessions/w/files/whole/file HTTP/1.1\r\nHost: x\r\n" RUNNER_AUTH
                       "Content-Length: 90000\r\n\r\nhalf of it");
    EVENTUALLY(60000, count_entries("whole") == 3);
    prints("cat whole/file", "old");
    close(fd);
    EVENTUALLY(60000, count_entries("whole") == 2);
    prints("cat whole/file", "old");
    struct reply *reply = session_send(get(), "PUT", "/sessions/w/files/whole/file", "new", 3);
    assert_status(reply, 200);
    reply_free(reply);
    prints("cat whole/file whole/before", "newold");
}

static void modes_are_octal_and_kept(void **state)
{
    (void)state;
    static const struct ask asks[] = {
        {"PUT", "files/m", NULL, "#!/bin/sh\necho ran\n", 201, NULL, NULL},
        {"PUT", "files/m?mode=0750", NULL, "#!/bin/sh\necho ran\n", 200, NULL, NULL},
        {"PUT", "files/m", NULL, "#!/bin/sh\necho kept\n", 200, NULL, NULL},
        {"PUT", "files/m?append=true&mode=700", NULL, "echo added\n", 200, NULL, NULL},
        {"PUT", "files/fresh?append=true&mode=600", NULL, "x", 201, "\"size\":1", NULL},
        {"PUT", "files/m?mode=&append=", NULL, "#!/bin/sh\necho $0\n", 200, NULL, NULL},
        {"PUT", "files/m?mode=1777", NULL, "x", 400, "0..777", "mode"},
        {"PUT", "files/m?mode=8", NULL, "x", 400, "got '8'", "mode"},
        {"PUT", "files/m?mode=-1", NULL, "x", 400, NULL, "mode"},
        {"PUT", "files/m?mode=99999999999999999999", NULL, "x", 400, NULL, "mode"},
        {"PUT", "files/m?append=yes", NULL, "x", 400, "true or false", "append"},
        {"PUT", "files/m?moed=700", NULL, "x", 400, "did you mean 'mode'", "moed"},
    };
    RUN(asks);
    prints("./m; stat -c %a m fresh", "./m\n700\n600\n");
}

static void lines_are_counted_from_zero(void **state)
{
    (void)state;
    static const struct ask asks[] = {
        {"PUT", "files/l", NULL, "a\nb\r\nc\n\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80z", 201, NULL,
         NULL},
        {"GET", "files/l?startLine=0&endLine=1", NULL, NULL, 200, "Content-Length: 1", NULL},
        {"GET", "files/l?startLine=2&endLine=3", NULL, NULL, 200, "Content-Length: 1", NULL},
        {"GET", "files/l?startLine=1&endLine=3", NULL, NULL, 200, "b\r\nc", NULL},
        {"GET", "files/l?endLine=1", NULL, NULL, 200, "text/plain; charset=utf-8", NULL},
        {"GET", "files/l?startLine=9", NULL, NULL, 200, "Content-Length: 0", NULL},
        {"GET", "files/l?startLine=3&endLine=2", NULL, NULL, 200, "Content-Length: 0", NULL},
        {"GET", "files/l?startLine=3&maxLength=2", NULL, NULL, 200,
         "\xc3\xa4\xe2\x82\xac(truncated)", NULL},
        {"GET", "files/l?startLine=3&maxLength=4", NULL, NULL, 200, "!(truncated)", NULL},
        {"GET", "files/l?maxLength=0", NULL, NULL, 200, "(truncated)", NULL},
        {"GET", "files/l?startLine=&endLine=&maxLength=", NULL, NULL, 200, "Accept-Ranges", NULL},
        {"GET", "files/l?startLine=-1", NULL, NULL, 400, "got '-1'", "startLine"},
        {"GET", "files/l?endLine=1.5", NULL, NULL, 400, NULL, "endLine"},
        {"GET", "files/l?maxLength=x", NULL, NULL, 400, NULL, "maxLength"},
        {"GET", "files/l?startline=1", NULL, NULL, 400, "did you mean 'startLine'", "startline"},
    };
    RUN(asks);
}

static void what_is_no_file_is_handled(void **state)
{
    (void)state;
    static const struct ask asks[] = {
        {"GET", "files/odd/fifo", NULL, NULL, 409, "is a fifo", NULL},
        {"PUT", "files/odd/fifo", NULL, "x", 409, "is a fifo", NULL},
        {"PUT", "files/odd/fifo?append=true", NULL, "x", 409, NULL, NULL},
        {"GET", "files/odd/sock", NULL, NULL, 409, NULL, NULL},
        {"PUT", "files/odd/sock", NULL, "x", 409, "is a socket", NULL},
        {"GET", "files//dev/zero", NULL, NULL, 409, NULL, NULL},
        {"HEAD", "files/odd/sparse", NULL, NULL, 200, "Content-Length: 3298534883328", NULL},
        {"GET", "files/odd/sparse", "Range: bytes=3298534883327-\r\n", NULL, 206,
         "Content-Length: 1", NULL},
        {"GET", "files/odd/sparse?startLine=1&endLine=2", NULL, NULL, 413, NULL, NULL},
        {"POST", "files/search", NULL, "{\"path\":\"odd/sparse\",\"pattern\":\"x\"}", 413, NULL,
         NULL},
        {"POST", "files/search", NULL, "{\"path\":\"odd/fifo\",\"pattern\":\"x\"}", 409, NULL,
         NULL},
        {"POST", "files/replace", NULL, "{\"path\":\"odd/sparse\",\"old\":\"x\",\"new\":\"\"}", 413,
         NULL, NULL},
        {"GET", "archive?path=odd/sparse", NULL, NULL, 413, NULL, NULL},
        {"GET", "archive?path=odd/fifo", NULL, NULL, 409, NULL, NULL},
        {"GET", "files/odd/magic/etc/hostname", NULL, NULL, 403, NULL, NULL},
        {"GET", "files/odd/loop", NULL, NULL, 403, "link", NULL},
        {"PUT", "files/odd/loop", NULL, "x", 403, "link", NULL},
        {"GET", "files/odd/dangling", NULL, NULL, 404, NULL, NULL},
        {"GET", "files/odd/up/no/such", NULL, NULL, 404, NULL, NULL},
        {"PUT", "files/odd/link", NULL, "through", 200, NULL, NULL},
        {"GET", "files/odd/closed/x", NULL, NULL, 403, "Permission denied", NULL},
        {"PUT", "files/odd/closed/y", NULL, "x", 403, NULL, NULL},
        {"POST", "files/replace", NULL, "{\"path\":\"/etc/passwd\",\"old\":\"root\",\"new\":\"x\"}",
         403, "Read-only", NULL},
        {"PUT", "archive?path=/etc", NULL, "x", 422, NULL, NULL},
    };
    prints(
        "mkdir -p odd/closed; cd odd; mkfifo fifo; truncate -s 3T sparse; ln -s /proc/1/root magic;"
        " ln -s loop loop; ln -s nowhere dangling; ln -s ../../../../.. up; echo x >target;"
        " ln -s target link; echo x >closed/x; chmod 0 closed; cd ..; python3 -c \"import socket;"
        " socket.socket(socket.AF_UNIX).bind('odd/sock')\"",
        "");
    RUN(asks);
    prints("cat odd/target; test -L odd/link && rm odd/sparse", "through");
}

static void lists_have_every_entry_once(void **state)
{
    (void)state;
    static const struct ask asks[] = {
        {"GET", "files?path=/workspace/list", NULL, NULL, 200,
         "\"name\":\"f\",\"path\":\"/workspace/list/"
         "f\",\"type\":\"file\",\"size\":3,\"mode\":\"0640\","
         "\"mtime\":\"2001-02-03T04:05:06.000Z\"",
         NULL},
        {"GET", "files?path=list", NULL, NULL, 200, "\"target\":\"/nowhere\"", NULL},
        {"GET", "files?path=list", NULL, NULL, 200, "\"type\":\"fifo\"", NULL},
        {"GET", "files?path=list", NULL, NULL, 200, "\"nextCursor\":null", NULL},
        {"GET", "files?path=list", NULL, NULL, 200, "!list/d/below", NULL},
        {"GET", "files?path=list&recursive=true", NULL, NULL, 200, "list/d/below", NULL},
        {"GET", "files?path=list&recursive=false", NULL, NULL, 200, "!list/d/below", NULL},
        {"GET", "files?path=list&recursive=yes", NULL, NULL, 400, NULL, "recursive"},
        {"GET", "files?path=list&limit=10001", NULL, NULL, 400, "1..10000", "limit"},
        {"GET", "files?path=list&limit=-1", NULL, NULL, 400, NULL, "limit"},
        {"GET", "files?path=list&limit=0", NULL, NULL, 200, NULL, NULL}, /* the default */
        {"GET", "files?path=list&paht=x", NULL, NULL, 400, "did you mean 'path'", "paht"},
        {"GET", "files?path=list/f", NULL, NULL, 404, NULL, NULL},
        {"GET", "files?path=list/none", NULL, NULL, 404, NULL, NULL},
        {"GET", "files?path=list%0a", NULL, NULL, 400, NULL, NULL},
        {"GET", "files?path=../../..", NULL, NULL, 200, "\"path\":\"/\"", NULL}, /* not above it */
        {"GET", "files?path=list/d/out", NULL, NULL, 403, NULL, NULL},
        {"GET", "files", NULL, NULL, 200, "\"path\":\"/workspace\"", NULL},
    };
    prints("mkdir -p list/d; cd list; printf abc >f; chmod 640 f; touch -d 2001-02-03T04:05:06Z f; "
           "ln -s /nowhere k; mkfifo p; touch d/below 'a b' 'a%41' $'n\\nl' $'\\xc3\\xa4' "
           "$'\\xff\\xfe' "
           "$'\\xff\\xff' $'\\x80'; ln -s /proc/1/root d/out; cd ..",
           "");
    RUN(asks);
    for (int limit = 1; limit < 4; limit++) {
        size_t seen = 0;
        char *cursor = strdup("");
        for (size_t pages = 0; cursor && pages < 20; pages++) {
            char *path = textf("/sessions/w/files?path=list&recursive=true&limit=%d&cursor=%s",
                               limit, cursor);
            struct reply *reply = runner_get(get(), path);
            assert_status(reply, 200);
            seen += (size_t)cJSON_GetArraySize(cJSON_GetObjectItem(reply->json, "entries"));
            const cJSON *next = cJSON_GetObjectItem(reply->json, "nextCursor");
            free(cursor);
            free(path);
            cursor = cJSON_IsString(next) ? url_encoded(next->valuestring) : NULL;
            reply_free(reply);
        }
        assert_null(cursor);
        assert_int_equal(seen, 13);
    }
}

static void lines_are_searched_one_by_one(void **state)
{
    (void)state;
#define SEARCH(members, status, text, field)                               \
    {                                                                      \
        "POST", "files/search", NULL, "{" members "}", status, text, field \
    }
    static const struct ask asks[] = {
        {"PUT", "files/s/t", NULL, "Alpha\nbeta gamma\r\nbeta\n\nf\xc3\xbcnf\n", 201, NULL, NULL},
        {"PUT", "files/s/sub/u", NULL, "beta", 201, NULL, NULL},
        {"PUT", "files/s/.hidden", NULL, "beta", 201, NULL, NULL},
        SEARCH("\"path\":\"s/t\",\"pattern\":\"^b\"", 200,
               "\"file\":\"/workspace/s/t\",\"matches\":[\"beta gamma\",\"beta\"],"
               "\"line_numbers\":[1,2],\"truncated\":false",
               NULL),
        SEARCH("\"path\":\"s/t\",\"pattern\":\"gamma$\"", 200, "[1]", NULL),
        SEARCH("\"path\":\"s/t\",\"pattern\":\"^$\"", 200, "[3]", NULL),
        SEARCH("\"path\":\"s/t\",\"pattern\":\"(?i)ALPHA|f.nf\"", 200, "[0,4]", NULL),
        SEARCH("\"path\":\"s/t\",\"pattern\":\"a\\nb\"", 200, "\"matches\":[]", NULL),
        SEARCH("\"path\":\"s/t\",\"pattern\":\"gamma\\\\s+beta\"", 200, "\"matches\":[]", NULL),
        SEARCH("\"path\":\"s/t\",\"pattern\":\"\\\\Abeta\\\\Z\"", 200, "[2]", NULL),
        SEARCH("\"path\":\"s/t\",\"pattern\":\"(?P<x>a)[^z]*(?P=x)\"", 200, "[1]", NULL),
        /* what stands before or behind a line is not looked at, */
        SEARCH("\"path\":\"s/t\",\"pattern\":\"(?<=\\n)b\"", 200, "\"matches\":[]", NULL),
        SEARCH("\"path\":\"s/t\",\"pattern\":\"(?<!\\n)b\"", 200, "[1,2]", NULL),
        SEARCH("\"path\":\"s/t\",\"pattern\":\"a(?!\\\\s)$\"", 200, "[0,1,2]", NULL),
        SEARCH("\"path\":\"s/t\",\"pattern\":\"a(?=\\\\s*$)\"", 200, "[0,1,2]", NULL),
        /* and Python's spelling is understood. */
        SEARCH("\"path\":\"s/t\",\"pattern\":\"f\\\\wnf\"", 200, "[4]", NULL),
        SEARCH("\"path\":\"s/t\",\"pattern\":\"(?a)f\\\\wnf\"", 200, "\"matches\":[]", NULL),
        SEARCH("\"path\":\"s/t\",\"pattern\":\"f\\\\u00fcnf{,2}$\"", 200, "[4]", NULL),
        SEARCH("\"path\":\"s/t\",\"pattern\":\"be\",\"limit\":1", 200, "\"truncated\":true", NULL),
        SEARCH("\"path\":\"s\",\"pattern\":\"beta\"", 200,
               "\"files\":[\"/workspace/s/.hidden\",\"/workspace/s/sub/u\",\"/workspace/s/t\","
               "\"/workspace/s/t\"]",
               NULL),
        SEARCH("\"path\":\"s/bin\",\"pattern\":\"beta\"", 200, "\"matches\":[]", NULL),
        SEARCH("\"path\":\"s/none\",\"pattern\":\"x\"", 404, NULL, NULL),
        SEARCH("\"path\":\"s/t\",\"pattern\":\"(\"", 400, "closing parenthesis", "pattern"),
        SEARCH("\"path\":\"s/t\"", 400, "required", "pattern"),
        SEARCH("\"path\":\"s/t\",\"pattern\":\"\"", 400, "required", "pattern"),
        SEARCH("\"path\":\"s/t\",\"pattern\":5", 400, "must be a string", "pattern"),
        SEARCH("\"path\":[],\"pattern\":\"x\"", 400, "must be a string", "path"),
        SEARCH("\"path\":\"s\",\"pattern\":\"x\",\"limit\":10001", 400, "1..10000", "limit"),
        SEARCH("\"path\":\"s\",\"pattern\":\"x\",\"patern\":1", 400, "did you mean 'pattern'",
               "patern"),
        {"POST", "files/search", NULL, "[]", 400, "object", NULL},
        {"POST", "files/search", NULL, "{", 400, "JSON", NULL},
    };
    prints("mkdir -p s; printf 'beta\\0' >s/bin; ln -s /etc/passwd s/link; mkfifo s/fifo", "");
    RUN(asks);
}

static void names_are_found_by_patterns(void **state)
{
    (void)state;
#define FIND(members, status, text, field)                               \
    {                                                                    \
        "POST", "files/find", NULL, "{" members "}", status, text, field \
    }
    static const struct ask asks[] = {
        FIND("\"path\":\"/workspace/f\",\"pattern\":\"*.py\"", 200,
             "\"files\":[\"/workspace/f/a.py\"]", NULL),
        FIND("\"path\":\"f\",\"pattern\":\"**/*.py\"", 200,
             "[\"/workspace/f/a.py\",\"/workspace/f/d/b.py\",\"/workspace/f/d/e/c.py\"]", NULL),
        FIND("\"path\":\"f\",\"pattern\":\"/workspace/f/d/*.p?\"", 200, "[\"/workspace/f/d/b.py\"]",
             NULL),
        FIND("\"path\":\"f\",\"pattern\":\"[!a].py\"", 200, "\"files\":[]", NULL),
        FIND("\"path\":\"f\",\"pattern\":\"../*\"", 200, "\"files\":[]", NULL),
        FIND("\"path\":\"f/none\",\"pattern\":\"*\"", 404, NULL, NULL),
        FIND("\"path\":\"f/a.py\",\"pattern\":\"*\"", 404, NULL, NULL),
        FIND("\"path\":\"f\"", 400, "required", "pattern"),
        FIND("\"path\":\"f\",\"pattern\":\"x\",\"recursive\":true", 400, "unknown", "recursive"),
    };
    prints("mkdir -p f/d/e; touch f/a.py f/d/b.py f/d/e/c.py f/x; ln -s . f/loop", "");
    RUN(asks);
}

static void texts_are_replaced(void **state)
{
    (void)state;
#define REPLACE(members, status, text, field)                                                \
    {                                                                                        \
        "POST", "files/replace", NULL, "{\"path\":\"rep\"," members "}", status, text, field \
    }
    static const struct ask asks[] = {
        {"PUT", "files/rep?mode=755", NULL, "aXbXcX", 201, NULL, NULL},
        REPLACE("\"old\":\"X\",\"new\":\"\",\"dryRun\":true", 200, "\"replaced\":3", NULL),
        {"GET", "files/rep", NULL, NULL, 200, "aXbXcX", NULL},
        REPLACE("\"old\":\"X\",\"new\":\"$1\\\\0\",\"count\":1", 200, "\"replaced\":1", NULL),
        {"GET", "files/rep", NULL, NULL, 200, "a$1\\0bXcX", NULL},
        REPLACE("\"old\":\"X\",\"new\":\"\"", 200, "\"replaced\":2", NULL),
        {"GET", "files/rep", NULL, NULL, 200, "a$1\\0bc", NULL},
        REPLACE("\"old\":\"X\",\"new\":\"\"", 200, "\"replaced\":0", NULL),
        REPLACE("\"old\":\"\",\"new\":\"x\"", 400, "required", "old"),
        REPLACE("\"old\":\"a\"", 400, "required", "new"),
        REPLACE("\"old\":\"a\",\"new\":\"\",\"count\":-1", 400, "must be 1..", "count"),
        REPLACE("\"old\":\"a\",\"new\":\"\",\"dryRun\":1", 400, "true or false", "dryRun"),
        {"POST", "files/replace", NULL, "{\"old\":\"a\",\"new\":\"b\"}", 400, "required", "path"},
        {"POST", "files/replace", NULL, "{\"path\":\"f\",\"old\":\"a\",\"new\":\"b\"}", 409, NULL,
         NULL},
        {"POST", "files/replace", NULL, "{\"path\":\"none\",\"old\":\"a\",\"new\":\"b\"}", 404,
         NULL, NULL},
    };
    RUN(asks);
    prints("stat -c %a rep; printf 'b\\0bX' >rep", "755\n");
    /* Binary files, too; and a text that is longer than what an agent's messages hold. */
    enum { LONG = 3000000 };
    char *text = malloc(LONG + 1);
    assert_non_null(text);
    memset(text, 'z', LONG);
    text[LONG] = '\0';
    char *body = textf("{\"path\":\"rep\",\"old\":\"X\",\"new\":\"%s\"}", text);
    struct reply *reply = runner_post(get(), "/sessions/w/files/replace", body);
    assert_status(reply, 200);
    reply_free(reply);
    prints("head -c 6 rep | od -An -c; wc -c <rep", "   b  \\0   b   z   z   z\n3000003\n");
    free(body);
    free(text);
}

static void archives_keep_what_they_can(void **state)
{
    (void)state;
    static const struct ask asks[] = {
        {"HEAD", "archive?path=arc", NULL, NULL, 200, "application/gzip", NULL},
        {"GET", "archive?path=arc/none", NULL, NULL, 404, NULL, NULL},
        {"GET", "archive?paht=arc", NULL, NULL, 400, "did you mean 'path'", "paht"},
        {"PUT", "archive?path=x&y=1", NULL, "x", 400, NULL, "y"},
        {"GET", "archive?path=deep", NULL, NULL, 413, "parts of it", NULL},
        {"PUT", "archive?path=x", NULL, "", 422, "empty", NULL},
        {"PUT", "archive?path=rep", NULL, "x", 404, NULL, NULL},
    };
    prints(
        "mkdir -p arc/d/e arc/empty; cd arc; echo f >f; chmod 4750 f; ln -s f l; ln -s ../f d/up; "
        "ln -s /etc/passwd abs; ln -s ../../x out; mkfifo p; touch -d 2001-02-03T04:05:06Z "
        "d/e/old; "
        "printf '\\0\\377' >bin; chmod 700 empty; cd ..; "
        "mkdir -p deep$(printf '/d%.0s' {1..102})",
        "");
    RUN(asks);
    struct reply *reply = runner_get(get(), "/sessions/w/archive?path=arc");
    assert_status(reply, 200);
    struct reply *up = session_send(get(), "PUT", "/sessions/w/archive?path=back/in", reply->body,
                                    reply->body_size);
    assert_status(up, 200);
    assert_non_null(strstr(up->body, "\"entries\":8"));
    reply_free(up);
    up = session_send(get(), "PUT", "/sessions/w/archive?path=/etc", reply->body, reply->body_size);
    assert_problem(up, 403, "forbidden");
    reply_free(up);
    reply_free(reply);
    prints(
        "cd back/in; find . -mindepth 1 -printf '%P %y %m %l\\n' | sort; od -An -c bin; cd ../..",
        "bin f 644 \nd d 755 \nd/e d 755 \nd/e/old f 644 \nd/up l 777 ../f\nempty d 700 \n"
        "f f 750 \nl l 777 f\n  \\0 377\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_are_absolute_or_of_the_workspace),
        cmocka_unit_test(deleting_says_whether_there_was_anything),
        cmocka_unit_test(parts_and_versions_of_a_file),
        cmocka_unit_test(a_file_is_replaced_whole_or_not_at_all),
        cmocka_unit_test(modes_are_octal_and_kept),
        cmocka_unit_test(lines_are_counted_from_zero),
        cmocka_unit_test(what_is_no_file_is_handled),
        cmocka_unit_test(lists_have_every_entry_once),
        cmocka_unit_test(lines_are_searched_one_by_one),
        cmocka_unit_test(names_are_found_by_patterns),
        cmocka_unit_test(texts_are_replaced),
        cmocka_unit_test(archives_keep_what_they_can),
    };
    return cmocka_run_group_tests_name("session_files_words", tests, start, shared_stop);
}
