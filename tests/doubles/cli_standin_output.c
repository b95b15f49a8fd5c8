/* cli-standin: output of every sort, good and bad. */
#include "cli_standin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int do_ok(char *args)
{
    return do_done(args);
}

int do_big_line(char *args)
{
    put_init();
    puts_raw("{\"type\":\"assistant\",\"message\":{\"role\":\"assistant\",\"content\":[{\"type\":"
             "\"text\",\"text\":\"");
    put_filler(strtol(args, NULL, 10));
    puts_raw("\"}]},\"session_id\":\"" SESSION "\"}\n");
    put_result("after the big line");
    return 0;
}

int do_big_result(char *args)
{
    long size = strtol(args, NULL, 10);
    char *text = malloc((size_t)size + 1);
    if (!text)
        return 70;
    memset(text, 'r', (size_t)size);
    text[size] = '\0';
    put_init();
    put_result(text);
    free(text);
    return 0;
}

int do_bad_utf8(char *args)
{
    (void)args;
    put_init();
    puts_raw("{\"type\":\"assistant\",\"message\":{\"role\":\"assistant\",\"content\":[{\"type\":"
             "\"text\",\"text\":\"bad \xff\xfe \xc3( \xed\xa0\x80 end\"}]}}\n");
    puts_raw("not json at all \x80\x81\n");
    put_result("valid again");
    return 0;
}

int do_bad_result(char *args)
{
    (void)args;
    put_init();
    put_result("bad \xff\xfe result");
    return 0;
}

int do_garbage(char *args)
{
    (void)args;
    put_init();
    puts_raw("plain text\n\n   \n{\"type\":\n[1,2,3]\n\"result\"\nnull\n"
             "{\"type\":\"result\"}trailing\n{\"type\":42}\n{\"subtype\":\"success\"}\n");
    put_result("after garbage");
    return 0;
}

int do_nul(char *args)
{
    (void)args;
    put_init();
    put("nul\0byte\n", 9);
    put_result("after nul");
    return 0;
}

int do_no_result(char *args)
{
    put_init();
    put_assistant(args);
    return 0;
}

int do_silent(char *args)
{
    (void)args;
    return 0;
}

int do_exit(char *args)
{
    put_init();
    return (int)strtol(args, NULL, 10);
}

int do_ok_exit(char *args)
{
    do_ok(args);
    return (int)strtol(args, NULL, 10);
}

int do_lines(char *args)
{
    char *end;
    long n = strtol(args, &end, 10);
    long len = strtol(end, NULL, 10);
    put_init();
    static const char head[] = "{\"type\":\"system\",\"subtype\":\"line\",\"text\":\"";
    size_t size = sizeof head - 1 + (size_t)len + 3;
    char *line = malloc(size);
    if (!line)
        return 70;
    memcpy(line, head, sizeof head - 1);
    memset(line + sizeof head - 1, 'l', (size_t)len);
    memcpy(line + size - 3, "\"}\n", 3);
    for (long i = 0; i < n; i++)
        put(line, size);
    free(line);
    put_result("lines done");
    return 0;
}

/* Lines of 4 KiB until that many bytes are out. */
int do_print_bytes(char *args)
{
    static char block[256 * 1024];
    static const char head[] = "{\"type\":\"system\",\"subtype\":\"bytes\",\"text\":\"";
    long long left = strtoll(args, NULL, 10);
    memset(block, 'b', sizeof block);
    for (size_t at = 0; at < sizeof block; at += 4096) {
        memcpy(block + at, head, sizeof head - 1);
        memcpy(block + at + 4093, "\"}\n", 3);
    }
    put_init();
    for (; left > 0; left -= (long long)sizeof block)
        put(block, sizeof block);
    put_result("bytes done");
    return 0;
}

int do_partial_line(char *args)
{
    char *line = result_line("success", false, args, "");
    put_init();
    put(line, strlen(line) - 1); /* all but the newline */
    free(line);
    return 0;
}

int do_half_line(char *args)
{
    char *line = result_line("success", false, args, "");
    put_init();
    put(line, strlen(line) / 2);
    free(line);
    return 0;
}

int do_split(char *args)
{
    long ms = strtol(args, NULL, 10);
    char *line = result_line("success", false, "h\xc3\xa9llo in pieces", "");
    put_init();
    for (size_t at = 0, size = strlen(line); at < size; at += 7) {
        put(line + at, size - at < 7 ? size - at : 7);
        nap(ms);
    }
    free(line);
    return 0;
}

int do_error(const char *subtype, const char *text, const char *tail)
{
    char *line = result_line(subtype, true, text, tail);
    put_init();
    puts_raw(line);
    free(line);
    return 1;
}

/* What the real CLI prints in the model's place: `error` says what kind of failure it is. */
static void put_synthetic(const char *text, const char *error)
{
    char line[1024];
    int n =
        snprintf(line, sizeof line,
                 "{\"type\":\"assistant\",\"message\":{\"id\":\"" SESSION "\",\"model\":"
                 "\"<synthetic>\",\"role\":\"assistant\",\"stop_reason\":\"stop_sequence\","
                 "\"type\":\"message\",\"usage\":{\"input_tokens\":0,\"output_tokens\":0},"
                 "\"content\":[{\"type\":\"text\",\"text\":\"%s\"}]},"
                 "\"parent_tool_use_id\":null,\"session_id\":\"" SESSION "\",\"error\":\"%s\"}\n",
                 text, error);
    put(line, (size_t)n);
}

int do_not_logged_in(char *args)
{
    static const char text[] = "Not logged in \xc2\xb7 Please run /login";
    (void)args;
    put_init();
    put_synthetic(text, "authentication_failed");
    char *line = result_line("success", true, text, "");
    puts_raw(line);
    free(line);
    return 1;
}

int do_max_turns(char *args)
{
    (void)args;
    return do_error("error_max_turns", NULL,
                    ",\"errors\":[\"Reached maximum number of turns (1)\"]");
}

/* As the real CLI: is_error with exit status 0 must still be a failure. */
int do_error_exit_0(char *args)
{
    do_error("error_during_execution", args, "");
    return 0;
}

int do_usage_limit(char *args)
{
    (void)args;
    put_init();
    char line[512];
    snprintf(line, sizeof line,
             "{\"type\":\"rate_limit_event\",\"rate_limit_info\":{\"status\":\"rejected\","
             "\"resetsAt\":%lld,\"rateLimitType\":\"five_hour\",\"isUsingOverage\":false},"
             "\"session_id\":\"" SESSION "\"}\n",
             (long long)time(NULL) + 3600);
    puts_raw(line);
    put_synthetic("You've hit your session limit", "rate_limit");
    char *result = result_line("success", true, "You've hit your session limit", "");
    char *status = strstr(result, "\"api_error_status\":null");
    memcpy(status + 19, "429 ", 4);
    puts_raw(result);
    free(result);
    return 1;
}

int do_sleep(char *args)
{
    put_init();
    nap(strtol(args, NULL, 10));
    put_assistant("slept");
    put_result("slept");
    return 0;
}

/* Ticks: N lines, one every MS milliseconds. */
int do_tick(char *args)
{
    char *end;
    long n = strtol(args, &end, 10);
    long ms = strtol(end, NULL, 10);
    put_init();
    for (long i = 0; i < n; i++) {
        char text[32];
        snprintf(text, sizeof text, "tick %ld", i);
        nap(ms);
        put_assistant(text);
    }
    put_result("ticked");
    return 0;
}

/* The text of a line is the monotonic clock in microseconds when it was written. */
int do_stamps(char *args)
{
    char *end;
    long n = strtol(args, &end, 10);
    long us = strtol(end, NULL, 10);
    struct timespec due, now;
    put_init();
    clock_gettime(CLOCK_MONOTONIC, &due);
    for (long i = 0; i < n; i++) {
        char line[96];
        due.tv_nsec += us * 1000;
        due.tv_sec += due.tv_nsec / 1000000000;
        due.tv_nsec %= 1000000000;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
        clock_gettime(CLOCK_MONOTONIC, &now);
        int len = snprintf(line, sizeof line,
                           "{\"type\":\"system\",\"subtype\":\"line\",\"at\":\"%018lld\"}\n",
                           (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
        put(line, (size_t)len);
    }
    put_result("stamped");
    return 0;
}

int do_stderr_flood(char *args)
{
    long left = strtol(args, NULL, 10);
    char line[1024];
    memset(line, 'e', sizeof line);
    line[sizeof line - 1] = '\n';
    for (; left > 0; left -= (long)sizeof line)
        if (write(STDERR_FILENO, line, sizeof line) < 0)
            break;
    return do_done("flooded");
}

int do_stderr_fail(char *args)
{
    dprintf(STDERR_FILENO, "%s\n", args);
    return 1;
}

/* A result, then another that says otherwise: the first one is final. */
int do_two_results(char *args)
{
    (void)args;
    put_init();
    put_result("first");
    put_result("second");
    return 0;
}
