/*
 * The box of a cloud session in an execution: its directories, and what of its shells can travel.
 * Private to runner/cloudbox.
 *
 * Threads: one at a time.
 */
#ifndef CLOUDBOX_VISIT_BOX_H
#define CLOUDBOX_VISIT_BOX_H

#include "runner/cloudbox/carry.h"
#include "runner/request/request.h"

struct visit_box {
    struct carry_place place; /* place.dir is owned */
    char *cwd;                /* that the command is to begin in; NULL: where its shell is */
    char shell[ID_SIZE];
};

/* Makes the directories that are missing. `place` has all but the directory. */
int visit_box_open(struct visit_box *box, const struct carry_place *place, const char *state_dir,
                   struct err *err);
/* Fine on a zeroed one. */
void visit_box_close(struct visit_box *box);

/* Writes the record that runner/session takes the box up by. A shell that has left no state begins
 * where state.json says, and the default shell with the variables that are there: all that the
 * replaced sandbox kept. */
int visit_box_describe(struct visit_box *box, const struct task_request *request,
                       const struct box_state *state, const struct json *wish, struct err *err);

/* Takes a command's answer (exec_print_end()) into the state. */
int visit_box_note(const struct visit_box *box, struct box_state *state, const char *end,
                   size_t len, struct err *err);

/* Once nobody is in the box below `dir`: states of shells that name paths of this machine are
 * removed. */
void visit_box_leave(const char *dir);

#endif
