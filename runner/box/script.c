/* What a shell is given to read. See box_private.h.
 *
 * A command is evaluated, so that a text with an error harms nothing, and together with a last line
 * of ours that reports $?, $_ and PIPESTATUS: behind the evaluation they would be its own. That
 * line is left out where it could be taken for a part of the text. What the text asks for of the
 * three is put back before it, without a process where that can be done. */
#include "runner/box/box_private.h"

#include "base/check.h"

#include <stdio.h>
#include <string.h>

#define INLINE_BYTES                                                             \
    (16u << 10) /* longer commands are read from a file: pipes are read by bytes \
                 */

/* Builtins that lines of ours use. A command finds those disabled that it has left so. */
static const char *const ours[] = {"eval",  "printf", "declare", "alias", "trap",
                                   "shopt", "umask",  "set",     "cd",    "wait"};

/* Together they print everything that makes another shell like this one; parts that cannot be set
 * are skipped when it is read. A null byte follows the list of what is disabled, the names, and the
 * modes. */
static const char *const dumps[] = {
    "enable -n",    "printf \\\\0", "enable eval printf declare alias trap shopt umask set cd wait",
    "declare -p",   "declare -f",   "alias -p",
    "printf \\\\0", "trap -p",      "shopt -p",
    "umask -p",     "set +o",       "printf \\\\0"};

void box_add_quoted(struct buf *out, const char *text, size_t len)
{
    buf_addc(out, '\'');
    while (len > 0) {
        const char *quote = memchr(text, '\'', len);
        size_t n = quote ? (size_t)(quote - text) : len;
        buf_add(out, text, n);
        if (quote)
            buf_adds(out, "'\\''");
        n += quote != NULL;
        text += n;
        len -= n;
    }
    buf_addc(out, '\'');
}

void box_add_fd(struct buf *line, const struct box *box, const char *how, int fd)
{
    buf_addf(line, " %s/proc/%d/fd/%d", how, (int)box->self, fd);
}

/* The caller's functions and aliases may have any name, so builtins are called explicitly.
 * `traced`: each by a redirection of its own. */
static void add_dump(struct buf *line, const struct box *box, const struct shell *shell,
                     bool traced)
{
    buf_adds(line, "{");
    for (size_t i = 0; i < COUNT_OF(dumps); i++) {
        buf_addf(line, " \\builtin %s", dumps[i]);
        if (traced)
            box_add_fd(line, box, ">", shell->report_write);
        buf_addc(line, ';');
    }
    buf_adds(line, " }");
    if (!traced)
        box_add_fd(line, box, ">", shell->report_write);
    buf_adds(line, " 2>/dev/null");
}

/* Where printf is disabled, $_ has the status still once it is not: that is no builtin's name, so
 * enabling "fails". Each byte costs bash a call, so this is left out where it can be. */
void box_add_report(struct buf *line, const struct box *box, const struct shell *shell,
                    const struct report *report)
{
    buf_addf(line, "\\builtin printf 'R%%s %%s\\0' %s %s", report->bang, report->status);
    box_add_fd(line, box, ">", shell->report_write);
    if (report->no_printf) {
        buf_addf(line,
                 " || \\builtin enable printf \"$_\" || \\builtin printf 'R%%s %%s p\\0' %s \"$_\"",
                 report->bang);
        box_add_fd(line, box, ">", shell->report_write);
    }
    buf_adds(line, "; ");
    if (report->end_job_control)
        buf_adds(line, "\\builtin set +m; ");
    add_dump(line, box, shell, shell->traced);
    buf_adds(line, "\n\n");
}

void box_add_farewell(struct buf *text, const struct box *box, const struct shell *shell)
{
    buf_adds(text, "{ \\builtin enable printf trap; \\builtin trap - DEBUG; } >/dev/null 2>&1; "
                   "\\builtin printf X%s\\\\0 \"$PWD\"");
    box_add_fd(text, box, ">", shell->report_write);
    buf_adds(text, "; ");
    add_dump(text, box, shell, false);
}

void box_add_arming(struct buf *line, const struct shell *shell)
{
    buf_adds(line, "\\builtin trap ");
    box_add_quoted(line, buf_str(&shell->farewell), shell->farewell.len);
    buf_adds(line, " EXIT\n");
}

static void add_redirects(struct buf *line, const struct box *box, const struct run *run)
{
    box_add_fd(line, box, "<", run->in);
    box_add_fd(line, box, run->log >= 0 ? ">>" : ">", run->log >= 0 ? run->log : run->out);
    if (run->log >= 0)
        buf_adds(line, " 2>&1");
    else
        box_add_fd(line, box, "2>", run->err);
}

static bool speaks_of(const struct buf *text, const char *word)
{
    return memmem(text->data, text->len, word, strlen(word)) != NULL;
}

/* Appends the beginning of the word that is evaluated. Its value is empty; the arithmetic in it
 * makes the text's first line line 1, and sets PIPESTATUS. */
static void add_parameters(struct buf *line, const struct shell *shell, const struct buf *text)
{
    const struct after *after = &shell->after;
    bool pipes = after->pipe_count > 0 && after->pipes_set && speaks_of(text, "PIPESTATUS");
    if (!pipes && !after->lines_set)
        return;
    buf_adds(line, "\"${_[");
    for (size_t i = 0; pipes && i < after->pipe_count; i++)
        buf_addf(line, "PIPESTATUS[%zu]=%d,", i, after->pipes[i]);
    buf_addf(line, "%s0]:+}\"", after->lines_set ? "LINENO=1," : "");
}

/* Appends the line that reports how the text has ended. Nothing of it is to be seen by set -x. */
static void add_tail(struct buf *line, const struct box *box, const struct shell *shell)
{
    buf_adds(line, "'\n{ \\builtin printf '\\''V%s\\0'\\'' \"$?\" \"$_\" \"${PIPESTATUS[@]}\"");
    box_add_fd(line, box, ">", shell->report_write);
    buf_adds(line, "; } >/dev/null 2>&1'");
}

/* `status`: $? for the command. A text that comes from a substitution finds that one's. */
static void add_eval(struct buf *line, const struct box *box, const struct shell *shell,
                     int command, const struct buf *text, int status, bool tail)
{
    buf_adds(line, "\\builtin eval ");
    add_parameters(line, shell, text);
    if (text->len <= INLINE_BYTES) {
        box_add_quoted(line, buf_str(text), text->len);
    } else if (status == 0) {
        buf_addf(line, "\"$(</proc/%d/fd/%d)\"", (int)box->self, command);
    } else {
        buf_adds(line, "\"$({ \\builtin trap - DEBUG; } >/dev/null 2>&1; \\builtin read -r -d ''");
        box_add_fd(line, box, "<", command);
        buf_addf(line, "; \\builtin printf %%s \"$REPLY\"; \\builtin exit %d)\"", status);
    }
    if (tail)
        add_tail(line, box, shell);
}

/* A shell that prints what it reads would print the line behind the text, too. */
static bool may_be_verbose(const struct shell *shell, const struct buf *text)
{
    return shell->verbose || speaks_of(text, "verbose") ||
           (speaks_of(text, "set -") && speaks_of(text, "v"));
}

/* Appends a line that gives the text the EXIT trap of ours, unless it may look at traps. */
static void add_trap(struct buf *line, struct shell *shell, const struct buf *text)
{
    bool trap = speaks_of(text, "trap");
    if (trap && shell->armed)
        buf_adds(line, "\\builtin trap - EXIT\n");
    else if (!trap && !shell->armed && !shell->trapped)
        box_add_arming(line, shell);
    shell->armed = !trap && !shell->trapped;
}

/* Appends a line that gives the text the $_ of a command before it, if it is about that. */
static void add_last(struct buf *line, const struct shell *shell, const struct buf *text)
{
    const struct buf *last = &shell->after.last;
    if (!shell->after.lasts || !(speaks_of(text, "$_") || speaks_of(text, "${_")))
        return;
    buf_adds(line, "\\builtin : ");
    box_add_quoted(line, buf_str(last), last->len);
    buf_addc(line, '\n');
}

/* Appends a line that disables what the caller has disabled. "eval" is needed. */
static void add_disabled(struct buf *line, const struct shell *shell, bool cd)
{
    if (shell->disabled == 0)
        return;
    buf_adds(line, "\\builtin enable -n");
    for (size_t i = 1; i < COUNT_OF(ours); i++)
        if ((shell->disabled & 1u << i) && !(cd && strcmp(ours[i], "cd") == 0))
            buf_addf(line, " %s", ours[i]);
    buf_addc(line, '\n');
}

unsigned box_disabled(const char *list, size_t len, bool printf_is)
{
    unsigned found = 0;
    char line[32];
    for (size_t i = 1; i < COUNT_OF(ours); i++) {
        snprintf(line, sizeof(line), "enable -n %s\n", ours[i]);
        bool named = memmem(list, len, line, strlen(line)) != NULL;
        if (named || (printf_is && strcmp(ours[i], "printf") == 0))
            found |= 1u << i;
    }
    return found;
}

/* A command that disables printf reports by its second line. */
static bool may_disable(const struct buf *text)
{
    return speaks_of(text, "enable") && (speaks_of(text, "printf") || speaks_of(text, "$"));
}

void box_add_command(struct buf *line, const struct box *box, struct shell *shell,
                     const struct buf *text, int command, const char *cwd)
{
    const struct run *run = shell->run;
    bool job_control = run->log >= 0 && !shell->monitor;
    bool tail = !run->background && !shell->traced && !may_be_verbose(shell, text) &&
                !may_disable(text) && shell->disabled == 0 && box_is_whole(buf_str(text));
    buf_addc(line, '\n'); /* ends what others may have written to the shell's pipe */
    if (job_control)
        buf_adds(line, "\\builtin set -m\n");
    add_trap(line, shell, text);
    add_disabled(line, shell, cwd != NULL);
    add_last(line, shell, text);
    int status = run->background || cwd ? 0 : shell->status;
    if (status == 1)
        buf_adds(line, "((0)) || "); /* needs no process */
    else if (status != 0)
        buf_addf(line, "(\\builtin exit %d) || ", status);
    if (run->background)
        buf_adds(line, "{ ( ");
    if (cwd) {
        buf_adds(line, "\\builtin cd -- ");
        box_add_quoted(line, cwd, strlen(cwd));
        if (!run->background)
            add_redirects(line, box, run);
        buf_adds(line, " && ");
    }
    add_eval(line, box, shell, command, text, status, tail);
    if (run->background)
        buf_adds(line, " ) & }");
    add_redirects(line, box, run); /* The shell itself redirects, before anything is forked. */
    buf_adds(line, "\n");
    const struct report report = {"\"$?\"", "\"${!-0}\"", may_disable(text) || shell->disabled != 0,
                                  job_control};
    box_add_report(line, box, shell, &report);
}
