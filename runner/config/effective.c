#include "base/form.h"
#include "base/str.h"
#include "runner/config/fields.h"
#include "json/json.h"

#include <string.h>

void config_add_takes(const struct config_field *field, struct buf *out)
{
    static const char *const words[] = {
        [KIND_INT] = "",
        [KIND_TEXT] = "text",
        [KIND_ADDRESS] = "list of addresses",
        [KIND_HOST] = "host name",
        [KIND_PATH] = "path",
        [KIND_URL] = "https URL",
        [KIND_ANY_URL] = "URL",
        [KIND_CHOICE] = "",
        [KIND_ENUM] = "",
        [KIND_LIST] = "list",
        [KIND_SECONDS] = "list of ",
        [KIND_DOMAINS] = "open, none, or list of domains",
        [KIND_NETWORKS] = "list of networks",
        [KIND_SECRETS] = "list of secrets",
        [KIND_LIMITS] = "list of name=number",
    };
    if (field->kind == KIND_INT || field->kind == KIND_SECONDS) {
        buf_addf(out, "%s%d..%d", words[field->kind], field->takes.min, field->takes.max);
    } else if (field->takes.choices) {
        buf_adds(out, "one of ");
        str_add_choices(out, field->takes.choices);
    } else {
        buf_adds(out, words[field->kind]);
    }
}

/* Appends the value in force as text; "" when there is none, and never a secret. */
static void add_value(const struct config *config, size_t index, struct buf *out)
{
    const struct config_field *field = &config_fields[index];
    const void *member = config_member(config, field);
    const struct config_secrets *secrets = member;
    const struct config_limits *limits = member;
    if (!config->values[index].text)
        return;
    switch (field->kind) {
    case KIND_INT:
        buf_addf(out, "%d", *(const int *)member);
        return;
    case KIND_LIST:
    case KIND_SECONDS:
    case KIND_DOMAINS:
    case KIND_NETWORKS:
        strlist_join(member, ",", out);
        return;
    case KIND_LIMITS:
        buf_addf(out, "cpu=%g,memoryMb=%d,pids=%d,diskMb=%d", limits->cpu, limits->memory_mb,
                 limits->pids, limits->disk_mb);
        return;
    case KIND_SECRETS:
        for (size_t i = 0; i < secrets->count; i++)
            buf_addf(out, "%s%s:…", i ? "," : "", secrets->items[i].name);
        return;
    case KIND_ENUM:
        buf_adds(out, config->values[index].text);
        return;
    case KIND_TEXT:
    case KIND_ADDRESS:
    case KIND_HOST:
    case KIND_PATH:
    case KIND_URL:
    case KIND_ANY_URL:
    case KIND_CHOICE:
        buf_adds(out, field->flags & CONFIG_SECRET ? "…" : *(char *const *)member);
        return;
    }
}

void config_print_text(const struct config *config, struct buf *out)
{
    for (size_t i = 0; i < config_field_count; i++) {
        const struct config_value *value = &config->values[i];
        AUTO(buf) struct buf text = BUF_INIT(65536);
        add_value(config, i, &text);
        buf_addf(out, "%s=%s", config_fields[i].name, buf_str(&text));
        buf_addf(out, "  # %s%s\n", value->text ? value->from : "not set",
                 config_fields[i].flags & CONFIG_LATER ? ", not used yet" : "");
    }
}

static void write_list(struct json_writer *w, const struct strlist *list)
{
    json_open_array(w, "value");
    for (size_t i = 0; i < list->count; i++)
        json_add_text(w, NULL, list->items[i]);
    json_close(w);
}

static void write_value(struct json_writer *w, const struct config *config, size_t index)
{
    const struct config_field *field = &config_fields[index];
    const void *member = config_member(config, field);
    AUTO(buf) struct buf text = BUF_INIT(65536);
    if (!config->values[index].text) {
        json_add_null(w, "value");
    } else if (field->kind == KIND_INT) {
        json_add_int(w, "value", *(const int *)member);
    } else if (field->kind == KIND_LIST || field->kind == KIND_SECONDS ||
               field->kind == KIND_DOMAINS || field->kind == KIND_NETWORKS) {
        write_list(w, member);
    } else {
        add_value(config, index, &text);
        json_add_text(w, "value", buf_str(&text));
    }
}

void config_print_json(const struct config *config, struct buf *out)
{
    struct json_writer w;
    json_write(&w, out);
    json_open_object(&w, NULL);
    for (size_t i = 0; i < config_field_count; i++) {
        json_open_object(&w, config_fields[i].name);
        write_value(&w, config, i);
        json_add_text(&w, "from", config->values[i].text ? config->values[i].from : NULL);
        if (config_fields[i].flags & CONFIG_SECRET)
            json_add_bool(&w, "secret", true);
        if (config_fields[i].flags & CONFIG_LATER)
            json_add_bool(&w, "notUsedYet", true);
        json_close(&w);
    }
    json_close(&w);
}

/* Appends text in lines of at most 100 columns, each after `indent` spaces. */
static void add_wrapped(const char *text, size_t indent, struct buf *out)
{
    size_t column = 0;
    for (const char *word = text; *word;) {
        size_t n = strcspn(word, " ");
        if (column == 0 || column + 1 + n > 100) {
            buf_addf(out, "%s%*s", column ? "\n" : "", (int)indent, "");
            column = indent;
        } else {
            buf_addc(out, ' ');
            column++;
        }
        buf_add(out, word, n);
        column += n;
        word += n + (word[n] == ' ');
    }
    buf_addc(out, '\n');
}

void config_print_help(struct buf *out)
{
    for (size_t i = 0; i < config_field_count; i++) {
        const struct config_field *field = &config_fields[i];
        buf_addf(out, "  %s", field->name);
        if (field->alias)
            buf_addf(out, ", %s", field->alias);
        buf_adds(out, "  (");
        config_add_takes(field, out);
        if (field->default_text)
            buf_addf(out, "; default %s", field->default_text);
        else
            buf_adds(out, field->flags & CONFIG_REQUIRED ? "; required" : "");
        buf_adds(out, ")\n");
        add_wrapped(field->help, 6, out);
    }
}

/* Appends a table cell, with '|' escaped: it would end the cell. */
static void add_cell(const char *text, struct buf *out)
{
    for (; *text; text++) {
        if (*text == '|')
            buf_addc(out, '\\');
        buf_addc(out, *text);
    }
    buf_adds(out, " | ");
}

static void add_markdown_row(const struct config_field *field, struct buf *out)
{
    AUTO(buf) struct buf takes = BUF_INIT(1024);
    config_add_takes(field, &takes);
    buf_addf(out, "| `%s`", field->name);
    if (field->alias)
        buf_addf(out, ", `%s`", field->alias);
    buf_adds(out, " | ");
    if (field->default_text)
        buf_addf(out, "`%s` | ", field->default_text);
    else
        buf_adds(out, field->flags & CONFIG_REQUIRED ? "required | " : "| ");
    add_cell(buf_str(&takes), out);
    buf_adds(out, field->help);
    if (field->flags & CONFIG_RELOADABLE)
        buf_adds(out, " (SIGHUP)");
    if (field->flags & CONFIG_LATER)
        buf_adds(out, " *(not used yet)*");
    buf_adds(out, " |\n");
}

void config_print_markdown(struct buf *out)
{
    buf_adds(
        out,
        "# Configuration\n\n"
        "Written from the table in `runner/config/config.h`; a test keeps the two the same.\n\n"
        "Variables come from the environment, or from `--env-file FILE` (`NAME=VALUE` lines, "
        "`#` comments, quotes, `export`);\nthe environment wins. Each `NAME` may also be given "
        "as `NAME_FILE`, the path of a file that holds the value.\nAn empty value counts as "
        "not given. `claude-runner serve --check` says what is in force and from where.\n"
        "(SIGHUP) marks what is taken over without a restart.\n\n"
        "| variable | default | takes | meaning |\n|---|---|---|---|\n");
    for (size_t i = 0; i < config_field_count; i++)
        add_markdown_row(&config_fields[i], out);
}
