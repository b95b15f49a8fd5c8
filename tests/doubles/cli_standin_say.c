/* cli-standin: output in the shape of the real CLI. */
#include "cli_standin.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- output ---- */

void put(const void *data, size_t size)
{
    const char *p = data;
    while (size) {
        ssize_t n = write(STDOUT_FILENO, p, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            _exit(74);
        p += n;
        size -= (size_t)n;
    }
}

void puts_raw(const char *text)
{
    put(text, strlen(text));
}

/* Appends `text` as the inside of a JSON string. */
void json_escape(FILE *out, const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\')
            fprintf(out, "\\%c", *p);
        else if (*p == '\n')
            fputs("\\n", out);
        else if (*p < 0x20)
            fprintf(out, "\\u%04x", *p);
        else
            fputc(*p, out);
    }
}

void put_init(void)
{
    puts_raw("{\"type\":\"system\",\"subtype\":\"init\",\"cwd\":\"/\",\"session_id\":\"" SESSION
             "\",\"tools\":[\"Bash\",\"Read\",\"Write\"],\"mcp_servers\":[],\"model\":\"standin\","
             "\"permissionMode\":\"default\",\"apiKeySource\":\"none\","
             "\"claude_code_version\":\"" VERSION "\"}\n");
}

void put_assistant(const char *text)
{
    char *line = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&line, &size);
    fputs(
        "{\"type\":\"assistant\",\"message\":{\"id\":\"msg_standin\",\"type\":\"message\","
        "\"role\":\"assistant\",\"model\":\"standin\",\"content\":[{\"type\":\"text\",\"text\":\"",
        out);
    json_escape(out, text);
    fputs("\"}],\"stop_reason\":null,\"usage\":{\"input_tokens\":3,\"output_tokens\":2}},"
          "\"parent_tool_use_id\":null,\"session_id\":\"" SESSION "\"}\n",
          out);
    fclose(out);
    put(line, size);
    free(line);
}

/* The result line; `subtype`, is_error and the rest as the real CLI combines them. `text` NULL: no
 * result field. `tail`: more fields, or "". */
char *result_line(const char *subtype, bool is_error, const char *text, const char *tail)
{
    char *line = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&line, &size);
    fprintf(out,
            "{\"type\":\"result\",\"subtype\":\"%s\",\"is_error\":%s,\"api_error_status\":null,"
            "\"duration_ms\":5,\"duration_api_ms\":1,\"num_turns\":1,",
            subtype, is_error ? "true" : "false");
    if (text) {
        fputs("\"result\":\"", out);
        json_escape(out, text);
        fputs("\",", out);
    }
    fprintf(out,
            "\"session_id\":\"" SESSION "\",\"total_cost_usd\":0.000125,"
            "\"usage\":{\"input_tokens\":3,\"cache_creation_input_tokens\":0,"
            "\"cache_read_input_tokens\":0,\"output_tokens\":2},\"modelUsage\":{},"
            "\"permission_denials\":[],\"terminal_reason\":\"completed\"%s}\n",
            tail);
    fclose(out);
    return line;
}

void put_result(const char *text)
{
    char *line = result_line("success", false, text, "");
    puts_raw(line);
    free(line);
}

void put_filler(long size)
{
    static char block[65536];
    memset(block, 'x', sizeof block);
    for (; size > 0; size -= (long)sizeof block)
        put(block, size < (long)sizeof block ? (size_t)size : sizeof block);
}

void nap(long ms)
{
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
        ;
}

__attribute__((noreturn)) void hang(void)
{
    for (;;)
        pause();
}

/* ---- behaviours; each gets what follows its name and returns the exit status ---- */

int do_done(const char *text)
{
    put_init();
    put_assistant(text);
    put_result(text);
    return 0;
}
