#include "runner/client/narrate.h"

#include "base/auto.h"
#include "base/clock.h"
#include "runner/client/client.h"
#include "runner/client/screen.h"

#include <string.h>
#include <unistd.h>

#define TEXT_MAX (66u << 20)
#define LINE_MAX_BYTES 4096

const char *narrate_colour(bool colour, enum narrate_colour which)
{
    static const char *const codes[] = {"\033[0m",  "\033[2m",  "\033[1m", "\033[31m",
                                        "\033[32m", "\033[33m", "\033[36m"};
    return colour ? codes[which] : "";
}

void narrate_init(struct narrate *n, FILE *out, bool colour)
{
    int rows;
    *n = (struct narrate){.out = out, .colour = colour};
    screen_size(fileno(out), &n->columns, &rows);
}

void narrate_done(struct narrate *n)
{
    json_free(n->end);
    n->end = NULL;
}

static const char *hue(const struct narrate *n, enum narrate_colour which)
{
    return narrate_colour(n->colour, which);
}

/* Removes the line about a running tool, or ends the line of a command's output. */
static void clear_pending(struct narrate *n)
{
    if (n->pending)
        fputs("\r\033[K", n->out);
    else if (n->unended && n->out == stdout)
        fputc('\n', n->out);
    n->pending = n->unended = false;
}

static void print_text(struct narrate *n, const char *text, size_t len)
{
    AUTO(buf) struct buf clean = BUF_INIT(TEXT_MAX * 3);
    clear_pending(n);
    screen_add_text(&clean, text, len);
    fwrite(buf_str(&clean), 1, clean.len, n->out);
    if (clean.len > 0 && clean.data[clean.len - 1] != '\n')
        fputc('\n', n->out);
}

/* Prints one line in a colour, cut to the screen. */
static void print_line(struct narrate *n, enum narrate_colour which, const char *text)
{
    AUTO(buf) struct buf line = BUF_INIT(LINE_MAX_BYTES);
    clear_pending(n);
    screen_add_line(&line, text, n->colour ? (size_t)n->columns : 200);
    fprintf(n->out, "%s%s%s\n", hue(n, which), buf_str(&line), hue(n, PLAIN));
}

/* --- tools --------------------------------------------------------------------------------- */

/* Adds a tool's input in a few words: its most informative member. */
static void add_input(struct buf *line, const struct json *input)
{
    static const char *const telling[] = {"command", "file_path", "path",   "pattern",
                                          "url",     "query",     "prompt", "description"};
    for (size_t i = 0; i < COUNT_OF(telling); i++) {
        const char *text = json_text(json_get(input, telling[i]));
        if (text) {
            screen_add_line(line, text, 160);
            return;
        }
    }
    AUTO(buf) struct buf json = BUF_INIT(TEXT_MAX);
    json_print(input, &json);
    screen_add_line(line, buf_str(&json), 160);
}

static void begin_tool(struct narrate *n, const struct json *block)
{
    AUTO(buf) struct buf line = BUF_INIT(LINE_MAX_BYTES);
    if (n->tool_count == NARRATE_TOOLS_MAX)
        return;
    struct narrate_tool *tool = &n->tools[n->tool_count++];
    screen_add_line(&line, text_of(block, "name"), 60);
    buf_addc(&line, '(');
    add_input(&line, json_get(block, "input"));
    buf_addc(&line, ')');
    snprintf(tool->id, sizeof(tool->id), "%s", text_of(block, "id"));
    snprintf(tool->line, sizeof(tool->line), "%s", buf_str(&line));
    tool->begun_ms = clock_mono_ms();
    if (n->colour && n->live) {
        AUTO(buf) struct buf cut = BUF_INIT(LINE_MAX_BYTES);
        clear_pending(n);
        screen_add_line(&cut, tool->line, n->columns > 4 ? (size_t)n->columns - 3 : 1);
        fprintf(n->out, "%s… %s%s", hue(n, DIM), buf_str(&cut), hue(n, PLAIN));
        n->pending = true;
    }
}

/* The text of a tool's result, which is a string or a list of parts. */
static const char *result_text(const struct json *content)
{
    const char *text = json_text(content);
    return text ? text : text_of(json_first(content), "text");
}

static void end_tool(struct narrate *n, const struct json *block)
{
    AUTO(buf) struct buf line = BUF_INIT(LINE_MAX_BYTES), cut = BUF_INIT(LINE_MAX_BYTES);
    const char *id = text_of(block, "tool_use_id");
    bool failed = client_is_true(block, "is_error");
    char time[40] = "";
    size_t i = 0;
    while (i < n->tool_count && strcmp(n->tools[i].id, id) != 0)
        i++;
    if (i == n->tool_count)
        return;
    if (n->live)
        snprintf(time, sizeof(time), "  %.1f s",
                 (double)(clock_mono_ms() - n->tools[i].begun_ms) / 1000);
    size_t room = n->colour && n->columns > 24 ? (size_t)n->columns - 4 - strlen(time) : 200;
    screen_add_line(&line, n->tools[i].line, room);
    clear_pending(n);
    fprintf(n->out, "%s%s%s %s%s%s%s\n", hue(n, failed ? RED : GREEN), failed ? "✗" : "●",
            hue(n, PLAIN), buf_str(&line), hue(n, DIM), time, hue(n, PLAIN));
    if (failed) {
        screen_add_line(&cut, result_text(json_get(block, "content")), room);
        fprintf(n->out, "  %s%s%s\n", hue(n, RED), buf_str(&cut), hue(n, PLAIN));
    }
    memmove(&n->tools[i], &n->tools[i + 1], (--n->tool_count - i) * sizeof(n->tools[0]));
}

/* --- events -------------------------------------------------------------------------------- */

static void tell_blocks(struct narrate *n, const struct json *event)
{
    const struct json *content = json_get(json_get(event, "message"), "content");
    for (const struct json *at = json_first(content); at; at = json_next(at)) {
        const char *type = text_of(at, "type"), *text = text_of(at, "text");
        if (strcmp(type, "tool_use") == 0) {
            begin_tool(n, at);
        } else if (strcmp(type, "tool_result") == 0) {
            end_tool(n, at);
        } else if (strcmp(type, "text") == 0 && strcmp(text_of(event, "type"), "assistant") == 0) {
            print_text(n, text, strlen(text));
            snprintf(n->last, sizeof(n->last), "%s", text);
        }
    }
}

/* Prints a line of the CLI. */
static void tell_line(struct narrate *n, const struct json *event)
{
    const char *type = text_of(event, "type");
    if (strcmp(type, "assistant") == 0 || strcmp(type, "user") == 0)
        tell_blocks(n, event);
    else if (strcmp(type, "text") == 0)
        print_line(n, DIM, text_of(event, "content"));
    else if (strcmp(type, "system") == 0 && strcmp(text_of(event, "subtype"), "init") == 0)
        print_line(n, DIM, text_of(event, "model"));
    else if (strcmp(type, "system") == 0 && json_get(event, "command"))
        print_line(n, DIM, text_of(event, "command"));
}

/* Prints a command's output: a JSON string, or an object that contains it. */
static void tell_output(struct narrate *n, const char *name, const struct json *data)
{
    static const char *const members[] = {"text", "data", "chunk", "content"};
    const char *text = json_text(data);
    for (size_t i = 0; !text && i < COUNT_OF(members); i++)
        text = json_text(json_get(data, members[i]));
    FILE *to = strcmp(name, "stderr") == 0 ? stderr : stdout;
    if (!text || !*text)
        return;
    n->unended = false;
    clear_pending(n);
    n->unended = to == stdout && text[strlen(text) - 1] != '\n';
    if (isatty(fileno(to))) { /* Untrusted: on a terminal no escape sequence may pass. */
        AUTO(buf) struct buf clean = BUF_INIT(TEXT_MAX * 3);
        screen_add_text(&clean, text, strlen(text));
        fputs(buf_str(&clean), to);
    } else {
        fputs(text, to);
    }
    fflush(to);
}

void narrate_event(const char *id, const char *name, const char *data, size_t len, void *arg)
{
    struct narrate *n = arg;
    struct err ignored;
    AUTO(json) struct json *root = json_parse(data, len, &ignored);
    (void)id;
    if (strcmp(name, "done") == 0) {
        json_free(n->end);
        n->end = STEAL_PTR(root);
    } else if (strcmp(name, "stdout") == 0 || strcmp(name, "stderr") == 0) {
        tell_output(n, name, root);
    } else if (n->silent) {
        return;
    } else if (strcmp(name, "error") == 0) {
        const char *text = text_of(root, "error");
        if (!json_get(root, "reason")) /* that is the end's, which narrate_end() tells */
            print_line(n, YELLOW, *text ? text : data);
    } else if (!*name || strcmp(name, "message") == 0) {
        tell_line(n, root);
    }
    fflush(n->out);
}

void narrate_end(struct narrate *n)
{
    AUTO(buf) struct buf line = BUF_INIT(LINE_MAX_BYTES);
    bool success = client_is_true(n->end, "success");
    const char *reason = text_of(n->end, "reason");
    clear_pending(n);
    buf_addf(&line, "%s in ", success ? "done" : *reason ? reason : "failed");
    screen_add_duration(&line, (double)number_of(n->end, "duration_ms") / 1000);
    long long turns = number_of(n->end, "num_turns");
    if (turns > 0)
        buf_addf(&line, ", %lld turn%s", turns, turns == 1 ? "" : "s");
    if (json_get(n->end, "total_cost_usd")) {
        buf_adds(&line, ", ");
        screen_add_cost(&line, real_of(n->end, "total_cost_usd"));
    }
    buf_addf(&line, ", task %s", text_of(n->end, "taskId"));
    fprintf(n->out, "%s%s%s%s\n", hue(n, success ? GREEN : RED), success ? "✓ " : "✗ ",
            buf_str(&line), hue(n, PLAIN));
    const char *error = text_of(n->end, "error"), *said = text_of(n->end, "output");
    if (!success && *error)
        print_line(n, RED, error);
    if (!success && *said && n->out == stdout && strcmp(said, n->last) != 0)
        print_line(n, YELLOW, said);
}

void narrate_diff(const char *text, size_t len, bool colour, FILE *out)
{
    AUTO(buf) struct buf clean = BUF_INIT(TEXT_MAX * 3);
    screen_add_text(&clean, text, len);
    for (char *line = clean.data, *end; line && *line; line = end) {
        end = strchr(line, '\n');
        size_t count = end ? (size_t)(end - line) : strlen(line);
        end = line + count + (end != NULL);
        enum narrate_colour hue = *line == '+'   ? GREEN
                                  : *line == '-' ? RED
                                  : *line == '@' ? CYAN
                                                 : PLAIN;
        fprintf(out, "%s%.*s%s\n", narrate_colour(colour && hue != PLAIN, hue), (int)count, line,
                narrate_colour(colour && hue != PLAIN, PLAIN));
    }
}

void narrate_foreign(const char *text, FILE *out)
{
    AUTO(buf) struct buf clean = BUF_INIT(TEXT_MAX * 3);
    size_t len = strlen(text);
    if (isatty(fileno(out))) {
        screen_add_text(&clean, text, len);
        fwrite(buf_str(&clean), 1, clean.len, out);
    } else {
        fwrite(text, 1, len, out);
    }
    if (len == 0 || text[len - 1] != '\n')
        fputc('\n', out);
}
