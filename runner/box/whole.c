/* Reads a command as bash would, as far as is needed to see where it ends. See box_private.h. */
#include "runner/box/box_private.h"

#include "base/check.h"

#include <string.h>

#define DEPTH_MAX 64
#define WORD_MAX 16
#define HERE_MAX 8

/* A here-document whose lines are still to come. */
struct here {
    const char *end; /* its last line */
    size_t len;
    bool tabs;    /* may begin with tabs */
    bool literal; /* a backslash in it means nothing */
};

struct scan {
    const char *at;
    struct here here[HERE_MAX];
    int here_count;
    int cases;   /* "case" commands that are open: their patterns end with a parenthesis */
    int depth;   /* parentheses and quotes that are open */
    int open;    /* compound commands that are open */
    int tests;   /* "[[" that are open */
    bool evals;  /* it evaluates some text */
    bool first;  /* the next word begins a command */
    bool wants;  /* an operator waits for a command */
    bool any;    /* there is a command */
    bool unsure; /* what follows could belong to it */
};

static void scan_list(struct scan *scan, char closer);
static void scan_dollar(struct scan *scan, bool quoted);

/* Passes over all up to the closing quote. */
static void scan_single(struct scan *scan, bool escapes)
{
    while (*scan->at && *scan->at != '\'')
        scan->at += escapes && *scan->at == '\\' && scan->at[1] ? 2 : 1;
    scan->unsure |= !*scan->at;
    scan->at += *scan->at != '\0';
}

static void scan_backquoted(struct scan *scan)
{
    while (*scan->at && *scan->at != '`')
        scan->at += *scan->at == '\\' && scan->at[1] ? 2 : 1;
    scan->unsure |= !*scan->at;
    scan->at += *scan->at != '\0';
}

/* Passes over what stands in double quotes, or in ${ }, with its closer. */
static void scan_inside(struct scan *scan, char closer, bool quoted)
{
    scan->unsure |= ++scan->depth > DEPTH_MAX;
    while (!scan->unsure && *scan->at && *scan->at != closer) {
        char c = *scan->at++;
        if (c == '\\' && *scan->at)
            scan->at++;
        else if (c == '$')
            scan_dollar(scan, quoted);
        else if (c == '`')
            scan_backquoted(scan);
        else if (c == '"' && closer != '"')
            scan_inside(scan, '"', true);
        else if (c == '\'' && closer != '"') {
            scan->unsure |= quoted; /* a quote or a character: that depends */
            scan_single(scan, false);
        }
    }
    scan->unsure |= *scan->at != closer;
    scan->at += *scan->at != '\0';
    scan->depth--;
}

/* After a '$'. */
static void scan_dollar(struct scan *scan, bool quoted)
{
    char c = *scan->at;
    if (c == '\0' || (quoted && (c == '"' || c == '\'')))
        return;
    scan->at++;
    if (c == '(')
        scan_list(scan, ')');
    else if (c == '[' || (c == '{' && (*scan->at == '\0' || strchr(" \t\n|&;<>(){}", *scan->at))))
        scan->unsure = true; /* what bash does with that depends on its version */
    else if (c == '{')
        scan_inside(scan, '}', quoted);
    else if (c == '\'')
        scan_single(scan, true);
    else if (c == '"')
        scan_inside(scan, '"', true);
    else if (strchr("\\` \t\n;&|<>)", c))
        scan->at--;
}

/* What reserved words do. */
static void note_word(struct scan *scan, const char *word)
{
    static const char *const openers[] = {"if", "for", "while", "until", "select", "{"};
    static const char *const closers[] = {"fi", "done", "}"};
    static const char *const between[] = {"then", "else", "elif", "do", "!", "time"};
    bool first = scan->first;
    scan->any = true;
    scan->wants = scan->first = false;
    if (scan->tests > 0 && strcmp(word, "]]") == 0)
        scan->tests--;
    if (!first)
        return;
    scan->tests += strcmp(word, "[[") == 0;
    scan->evals |= strcmp(word, "eval") == 0;
    scan->unsure |= strcmp(word, "function") == 0 || strcmp(word, "coproc") == 0;
    scan->cases += (strcmp(word, "case") == 0) - (strcmp(word, "esac") == 0);
    for (size_t i = 0; i < COUNT_OF(openers); i++)
        if (strcmp(word, openers[i]) == 0) {
            scan->open++;
            scan->first = i != 1 && i != 4; /* a name follows "for" and "select" */
        }
    for (size_t i = 0; i < COUNT_OF(closers); i++)
        if (strcmp(word, closers[i]) == 0) {
            scan->open--;
            scan->first = true;
        }
    for (size_t i = 0; i < COUNT_OF(between); i++)
        if (strcmp(word, between[i]) == 0)
            scan->first = scan->wants = true;
}

/* Passes over a word; it is noted without its quotes only when it has none. The index of an array
 * may go on behind spaces, and a word on the next line: that is not looked into. */
static void scan_word(struct scan *scan)
{
    char word[WORD_MAX];
    size_t len = 0;
    bool plain = true, index = false;
    while (!scan->unsure && *scan->at && !strchr(" \t\n;&|<>()", *scan->at)) {
        char c = *scan->at++;
        plain = plain && !strchr("\\'\"$`", c) && len + 1 < sizeof(word);
        if (plain)
            word[len++] = c;
        if (c == '[' || c == ']')
            index = c == '[';
        if (c == '\\') {
            scan->unsure |= !*scan->at || *scan->at == '\n';
            scan->at += *scan->at != '\0';
        } else if (c == '\'') {
            scan_single(scan, false);
        } else if (c == '"') {
            scan_inside(scan, '"', true);
        } else if (c == '`') {
            scan_backquoted(scan);
        } else if (c == '$') {
            scan_dollar(scan, false);
        }
    }
    scan->unsure |= index && len != 1 && !(len == 2 && word[1] == '[');
    word[plain ? len : 0] = '\0';
    note_word(scan, word);
}

/* Notes a here-document, after its "<<". Its word is one without expansions, or quoted whole. */
static void scan_here(struct scan *scan)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";
    struct here *here = &scan->here[scan->here_count];
    here->tabs = *scan->at == '-';
    scan->at += here->tabs;
    scan->at += strspn(scan->at, " \t");
    char quote = *scan->at == '\'' || *scan->at == '"' ? *scan->at : '\0';
    scan->at += quote != '\0';
    here->literal = quote != '\0';
    here->end = scan->at;
    here->len = strspn(scan->at, letters);
    scan->at += here->len;
    scan->unsure |= here->len == 0 || (quote && *scan->at != quote);
    scan->at += quote && *scan->at == quote;
    scan->unsure |=
        (*scan->at && !strchr(" \t\n;&|<>)", *scan->at)) || ++scan->here_count == HERE_MAX;
}

/* Passes over the lines of the here-documents that have been noted. */
static void pass_here(struct scan *scan)
{
    for (int i = 0; i < scan->here_count && !scan->unsure; i++) {
        const struct here *here = &scan->here[i];
        for (bool found = false; !found && !scan->unsure;) {
            const char *line = scan->at + (here->tabs ? strspn(scan->at, "\t") : 0);
            size_t len = strcspn(line, "\n");
            found = len == here->len && memcmp(line, here->end, len) == 0;
            bool joined = len > 0 && line[len - 1] == '\\' && !here->literal;
            scan->unsure |= joined || (!found && !line[len]);
            scan->at = line + len + (line[len] != '\0');
        }
    }
    scan->here_count = 0;
}

/* Passes over an operator that is not a parenthesis. */
static void scan_operator(struct scan *scan)
{
    static const char *const joins[] = {"&&", "||", "|&", "|"};
    static const char *const redirects[] = {"<<<", ">>", "<&", ">&", "&>>",
                                            "&>",  "<>", ">|", "<",  ">"};
    if (strncmp(scan->at, "<<", 2) == 0 && scan->at[2] != '<') {
        scan->at += 2;
        scan_here(scan);
        return;
    }
    if (strncmp(scan->at, ";;", 2) == 0 || strncmp(scan->at, ";&", 2) == 0)
        scan->unsure |= scan->cases == 0;
    for (size_t i = 0; i < COUNT_OF(joins); i++)
        if (strncmp(scan->at, joins[i], strlen(joins[i])) == 0) {
            scan->at += strlen(joins[i]);
            scan->first = scan->wants = true;
            return;
        }
    for (size_t i = 0; i < COUNT_OF(redirects); i++)
        if (strncmp(scan->at, redirects[i], strlen(redirects[i])) == 0) {
            scan->at += strlen(redirects[i]);
            scan->wants = true;
            scan->first = false;
            return;
        }
    scan->first = true;
    scan->at++;
}

/* Passes over commands up to the closer, with it. */
static void scan_list(struct scan *scan, char closer)
{
    bool first = scan->first;
    scan->unsure |= ++scan->depth > DEPTH_MAX;
    scan->first = true;
    while (!scan->unsure && *scan->at && *scan->at != closer) {
        char c = *scan->at;
        if (c == '#') {
            scan->at += strcspn(scan->at, "\n");
        } else if (c == '(') {
            scan->at++;
            /* of a function, whose body follows */
            bool empty = scan->at[strspn(scan->at, " \t")] == ')';
            scan_list(scan, ')');
            scan->any = true;
            scan->wants = empty;
            scan->first = true;
        } else if (c == ')') {
            scan->unsure |= scan->cases <= 0;
            scan->at++;
            scan->first = true;
        } else if (c == '\n') {
            scan->at++;
            scan->first = true;
            pass_here(scan);
        } else if (c == '\\' && scan->at[1] == '\n') {
            scan->at += 2;
        } else if (strchr(" \t", c)) {
            scan->at++;
        } else if (strchr(";&|<>", c)) {
            scan_operator(scan);
        } else {
            scan_word(scan);
        }
    }
    scan->unsure |= *scan->at != closer;
    scan->at += *scan->at != '\0';
    scan->first = first;
    scan->depth--;
}

/* A text that is evaluated and ends within brackets has bash read what follows as if it did. */
bool box_is_whole(const char *text)
{
    struct scan scan = {.at = text};
    scan_list(&scan, '\0');
    return scan.any && !scan.unsure && !scan.wants && scan.open == 0 && scan.tests == 0 &&
           scan.cases == 0 && scan.here_count == 0 && !(scan.evals && strchr(text, '['));
}
