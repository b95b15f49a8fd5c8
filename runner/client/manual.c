/* completion and man: the shells' completions and the manual page, printed from the tables. */
#include "base/auto.h"
#include "base/str.h"
#include "runner/client/commands.h"
#include "runner/version.h"

#include <ctype.h>
#include <string.h>

/* --- words --------------------------------------------------------------------------------- */

/* Called for every command, ours and the program's others. */
typedef void each_fn(const char *name, const char *summary, const struct command_row *row,
                     void *arg);

static void each_command(each_fn *fn, void *arg)
{
    const struct command_row *row;
    const struct command_note *note;
    for (size_t i = 0; (row = commands_at(i)); i++)
        fn(row->name, row->summary, row, arg);
    for (size_t i = 0; (note = commands_other(i)); i++)
        fn(note->name, note->summary, NULL, arg);
}

/* Calls fn for our own commands only. */
static void each_row(void (*fn)(const struct command_row *row))
{
    const struct command_row *row;
    for (size_t i = 0; (row = commands_at(i)); i++)
        fn(row);
}

/* --- bash ---------------------------------------------------------------------------------- */

static void bash_case(const struct command_row *row)
{
    struct option_row scratch;
    const struct option_row *option;
    printf("    '%s') words='", row->name);
    for (size_t i = 0; (option = options_at(row, i, &scratch)); i++)
        printf("--%s ", option->name);
    puts("' ;;");
}

/* The first words of all commands, each once. */
struct first {
    char seen[4096];
};

static void add_first(const char *name, const char *summary, const struct command_row *row,
                      void *arg)
{
    struct first *first = arg;
    char word[64];
    size_t used = strlen(first->seen);
    (void)summary, (void)row;
    snprintf(word, sizeof(word), " %.*s ", (int)strcspn(name, " "), name);
    if (!strstr(first->seen, word) && used + strlen(word) < sizeof(first->seen))
        memcpy(first->seen + (used > 0 ? used - 1 : 0), word, strlen(word) + 1);
}

static void bash_second(const char *name, const char *summary, const struct command_row *row,
                        void *arg)
{
    const char *space = strchr(name, ' ');
    (void)summary, (void)row, (void)arg;
    if (space)
        printf("    '%.*s') subs=\"$subs %s\" ;;&\n", (int)(space - name), name, space + 1);
}

static void print_bash(void)
{
    struct first first = {" "};
    each_command(add_first, &first);
    printf("# bash completion of claude-runner %s\n_claude_runner() {\n"
           "    local cur=${COMP_WORDS[COMP_CWORD]} first=${COMP_WORDS[1]} second=${COMP_WORDS[2]} "
           "words='' subs=''\n"
           "    if ((COMP_CWORD == 1)); then\n"
           "        mapfile -t COMPREPLY < <(compgen -W '%s' -- \"$cur\")\n        return\n    fi\n"
           "    case $first in\n",
           RUNNER_VERSION, first.seen + 1);
    each_command(bash_second, NULL);
    puts("    esac\n"
         "    if [[ $subs ]] && ((COMP_CWORD == 2)); then\n"
         "        mapfile -t COMPREPLY < <(compgen -W \"$subs\" -- \"$cur\")\n        return\n    "
         "fi\n"
         "    [[ $subs ]] && first=\"$first $second\"\n"
         "    case $first in");
    each_row(bash_case);
    puts("    esac\n"
         "    if [[ $cur == -* ]]; then\n"
         "        mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
         "    else\n"
         "        mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
         "    fi\n}\n"
         "complete -o filenames -F _claude_runner claude-runner");
}

/* --- zsh ----------------------------------------------------------------------------------- */

/* Prints text for single quotes, with ':' and brackets escaped as zsh's descriptions require. */
static void print_escaped(const char *text, const char *escape)
{
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", stdout);
        else if (strchr(escape, *text))
            printf("\\%c", *text);
        else
            putchar(*text);
    }
}

static void zsh_command(const char *name, const char *summary, const struct command_row *row,
                        void *arg)
{
    (void)row, (void)arg;
    fputs("        '", stdout);
    print_escaped(name, ":");
    putchar(':');
    print_escaped(summary, ":");
    puts("'");
}

static void zsh_options(const struct command_row *row)
{
    struct option_row scratch;
    const struct option_row *option;
    printf("        '%s') options=(", row->name);
    for (size_t i = 0; (option = options_at(row, i, &scratch)); i++) {
        printf("'--%s%s[", option->name, option->value ? "=" : "");
        print_escaped(option->help, ":[]");
        printf("]%s'\n            ", !option->value ? "" : ":value:_files");
    }
    puts(") ;;");
}

static void print_zsh(void)
{
    puts("#compdef claude-runner\n_claude_runner() {\n"
         "    local -a commands options\n    local command=$words[2]\n    commands=(");
    each_command(zsh_command, NULL);
    puts("    )\n"
         "    if ((CURRENT == 2)); then\n"
         "        _describe command commands\n        return\n    fi\n"
         "    [[ ${(M)commands:#\"$command $words[3]:\"*} ]] && command=\"$command $words[3]\"\n"
         "    case $command in");
    each_row(zsh_options);
    puts("    esac\n    _arguments $options '*:file:_files'\n}\n_claude_runner \"$@\"");
}

/* --- fish ---------------------------------------------------------------------------------- */

static void fish_command(const char *name, const char *summary, const struct command_row *row,
                         void *arg)
{
    struct option_row scratch;
    const struct option_row *option;
    const char *space = strchr(name, ' ');
    int first = (int)strcspn(name, " ");
    (void)arg;
    if (space)
        printf("complete -c claude-runner -n '__fish_seen_subcommand_from %.*s' -a %s -d '", first,
               name, space + 1);
    else
        printf("complete -c claude-runner -n __fish_use_subcommand -a %s -d '", name);
    print_escaped(summary, "\\");
    puts("'");
    for (size_t i = 0; row && (option = options_at(row, i, &scratch)); i++) {
        printf("complete -c claude-runner -n '__fish_seen_subcommand_from %s' -l %s%s -d '",
               space ? space + 1 : name, option->name, option->value ? " -r" : "");
        print_escaped(option->help, "\\");
        puts("'");
    }
}

static void fish_group(const char *name, const char *summary, const struct command_row *row,
                       void *arg)
{
    struct first *first = arg;
    (void)summary, (void)row;
    if (!strchr(name, ' '))
        return;
    size_t before = strlen(first->seen);
    add_first(name, summary, row, arg);
    if (strlen(first->seen) > before)
        printf("complete -c claude-runner -n __fish_use_subcommand -a %.*s\n",
               (int)strcspn(name, " "), name);
}

static void print_fish(void)
{
    struct first first = {" "};
    each_command(fish_group, &first);
    each_command(fish_command, NULL);
}

int client_complete(struct call *call, struct err *err)
{
    static const struct {
        const char *shell;
        void (*print)(void);
    } shells[] = {{"bash", print_bash}, {"zsh", print_zsh}, {"fish", print_fish}};
    for (size_t i = 0; i < COUNT_OF(shells); i++)
        if (strcmp(call->args.items[0], shells[i].shell) == 0) {
            shells[i].print();
            return 0;
        }
    return err_set(err, ERR_INVALID, "'%.40s' is none of bash, zsh, fish", call->args.items[0]);
}

/* --- the manual page ----------------------------------------------------------------------- */

/* Prints a character of more than one byte by its number. Returns its bytes. */
static size_t print_beyond_ascii(const char *text)
{
    size_t len = str_utf8_char(text, strlen(text));
    unsigned number = (unsigned char)text[0] & (0xffu >> (len + 1));
    for (size_t i = 1; i < len; i++)
        number = number << 6 | ((unsigned char)text[i] & 0x3fu);
    printf("\\[u%04X]", number);
    return len ? len : 1;
}

/* Prints text for roff: no line begins with '.' or a quote, and '-' is escaped. */
static void print_roff(const char *text)
{
    bool begins = true;
    for (; *text; text++) {
        if (begins && (*text == '.' || *text == '\''))
            fputs("\\&", stdout);
        if (*text == '\\')
            fputs("\\e", stdout);
        else if (*text == '-')
            fputs("\\-", stdout);
        else if ((unsigned char)*text >= 0x80)
            text += print_beyond_ascii(text) - 1;
        else
            putchar(*text);
        begins = *text == '\n';
    }
}

static void print_value(const char *value)
{
    fputs(" \\fI", stdout);
    print_roff(value);
    fputs("\\fR", stdout);
}

static void man_command(const char *name, const char *summary, const struct command_row *row,
                        void *arg)
{
    struct option_row scratch;
    const struct option_row *option;
    (void)arg;
    printf(".SS %s ", name);
    print_roff(row ? row->args : "");
    putchar('\n');
    putchar(toupper((unsigned char)*summary));
    print_roff(summary + 1);
    puts(".");
    if (row && row->text) {
        puts(".PP");
        print_roff(row->text);
        putchar('\n');
    }
    for (size_t i = 0; row && (option = options_at(row, i, &scratch)); i++) {
        if (option->name == options_common[0].name)
            break;
        fputs(".TP\n.B ", stdout);
        if (option->letter)
            printf("\\-%c, ", option->letter);
        fputs("\\-\\-", stdout);
        print_roff(option->name);
        if (option->value)
            print_value(option->value);
        putchar('\n');
        print_roff(option->help);
        putchar('\n');
    }
}

int client_man(struct call *call, struct err *err)
{
    (void)call, (void)err;
    printf(".TH CLAUDE-RUNNER 1 \"\" \"claude-runner %s\"\n.SH NAME\nclaude-runner \\- runs Claude "
           "Code, commands and Python on a machine of one's own\n.SH SYNOPSIS\n.B claude-runner\n"
           ".I COMMAND\n[OPTIONS]\n.SH OPTIONS OF EVERY COMMAND\n",
           RUNNER_VERSION);
    for (const struct option_row *option = options_common; option->name; option++) {
        fputs(".TP\n.B \\-\\-", stdout);
        print_roff(option->name);
        if (option->value)
            print_value(option->value);
        putchar('\n');
        print_roff(option->help);
        putchar('\n');
    }
    puts(".SH COMMANDS");
    each_command(man_command, NULL);
    puts(
        ".SH EXIT STATUS\n0 for success, 1 for a failure, 2 for a wrong call or configuration, 124 "
        "when a time limit was up, 130 when cancelled.\n.B run\nand\n.B exec\nend with the task's "
        "own exit status where it has one.\n.SH ENVIRONMENT\n.B RUNNER_URL, RUNNER_SECRET, "
        "RUNNER_SECRET_FILE, RUNNER_NAME\n.SH FILES\n.I ~/.config/claude-runner/config");
    return 0;
}
