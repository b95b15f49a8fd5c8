/*
 * What set-up creates at Google, and how its commands report it. Private to runner/cli/cloud*.
 *
 * Theory of operation. Everything that must exist is a row in a table of steps (cloud_steps.c).
 * Each step looks at what exists, decides, and acts:
 *
 *     setup:  for each step   look ── same ──────────▶ "unchanged"
 *                              └── absent, different ─▶ do ─▶ "created", "changed: what"
 *     down:   for each step, last first   survey ─▶ ask the person ─▶ undo
 *
 * No state is kept between two runs except at Google: the next run continues an interrupted one.
 * Most steps are things of one kind: a document with a path of its own, which is compared with the
 * wanted one (cloud_thing.c).
 *
 * Threads: one. Ownership: a site owns its texts and lists, and a verdict its members; end them by
 * site_close() and verdict_done().
 */
#ifndef CLI_CLOUD_H
#define CLI_CLOUD_H

#include "base/buf.h"
#include "base/strlist.h"
#include "google/google.h"
#include "json/json.h"

#include <stdbool.h>
#include <stdint.h>

#define CLOUD_MARK_LABEL "managed-by" /* with the next value: set-up made it */
#define CLOUD_MARK_VALUE "claude-runner"
#define CLOUD_MARK_WORDS "Made by claude-runner cloud setup" /* where there are no labels */
#define CLOUD_PATH_MAX 4096
#define CLOUD_BODY_MAX (4u << 20)
#define CLOUD_SESSIONS "sessions/" /* in the bucket */
#define CLOUD_INPUTS "inputs/"
#define CLOUD_BUILDS "builds/"

/* The wanted state. Texts are never NULL unless it says so. */
struct site {
    struct google *google;
    char *project, *region, *bucket, *kms_location, *ring, *key, *secret, *repository, *job, *role;
    char *job_account, *home_account, *build_account; /* e-mail addresses */
    char *image, *create_project;
    char *prompt_secret;    /* SYSTEM_PROMPT_SECRET, when it is one of this project, or NULL */
    char *network, *subnet; /* NULL: no Direct VPC egress is wanted */
    char *key_file;         /* absolute; NULL: the home runner needs none */
    char *impersonator;     /* account that may act as the home runner's account, or NULL */
    char *cpu, *memory;     /* NULL: as it is, or the default; so are the next two */
    int64_t timeout_s;      /* 0 */
    bool image_given;
    bool service, public; /* the service at Google, and open to whoever has the secret */
    bool images;          /* home may make jobs, for tasks with an image or a size */
    bool no_build;        /* the job keeps its image */
    bool image_made;      /* `image` is, or will be, what Cloud Build has made */
    struct strlist allow; /* PROTOCOL:PORTS or PROTOCOL:PORTS@RANGE */
    struct strlist env;   /* NAME=VALUE, further variables of the job */
    struct buf value;     /* of the secret; empty when none was given */
    bool has_value;       /* the secret already has a value */
    bool down, dry_run, yes, force, destroy_key;
    struct strlist off;    /* services that are not enabled: "run.googleapis.com" */
    int64_t billing_until; /* mono: how long to wait for billing; 0: it was not missing yet */
    bool just_enabled;     /* services were enabled a moment ago: their APIs may not know it yet */
    bool just_granted;     /* something was: not everybody may know yet */
    bool told_new;         /* it was said that an account is so new that it is waited for */
    char number[32];       /* of the project */
};

/* --- options (cloud_options.c) -------------------------------------------------------------- */

/* Reads the options of set-up or down, and the rest from the environment, ./.env and the defaults.
 * Returns 0; 1 after printing --help; -1 with ERR_INVALID or ERR_CONFIG. */
int site_open(struct site *site, bool down, int argc, char **argv, struct err *err);
void site_close(struct site *site);
static inline void auto_site(struct site *site)
{
    site_close(site);
}
/* Reads the secret's value from --secret-file or stdin. */
int site_read_value(struct site *site, const char *secret_file, struct err *err);

/* Asks the person at the terminal for the value, without echo; does nothing when there is no
 * terminal. */
int site_ask_value(struct site *site, struct err *err);

/* Append full names: "projects/P/locations/L/keyRings/R/cryptoKeys/K", … */
void site_add_key(const struct site *site, struct buf *out);
void site_add_job(const struct site *site, struct buf *out);

/* Whether the image is made here: not when one is given, or the job is to keep its own. */
static inline bool site_builds(const struct site *site)
{
    return site->down || (!site->image_given && !site->no_build);
}

/* Finds the project where none was named: the only one, the one that the person picks, or the one
 * that --create-project makes (cloud_project.c). */
int site_find_project(struct site *site, struct err *err);

/* --- calls (cloud_ask.c) -------------------------------------------------------------------- */

struct ask {
    enum google_api api;
    const char *method;
    const struct buf *path; /* escaped */
    const struct buf *body; /* or NULL */
    const char *permission; /* permission that the call needs: named when it is refused */
    bool once;              /* repeating the call would do more than one call */
    bool leave;             /* what it starts is not waited for */
};

/* Makes one call, and waits for the operation that it may have started. *ret_json (unless NULL) is
 * the first answer, which the caller frees. */
int site_ask(struct site *site, const struct ask *ask, struct json **ret_json, struct err *err);

/* Lists all pages of GET path (which has a query): calls fn for each item of `field`. */
int site_list(struct site *site, const struct ask *ask, const char *field,
              int (*fn)(const struct json *item, void *arg), void *arg, struct err *err);

/* True, after a pause, when a call was refused because the project has no billing yet and somebody
 * may be about to enable it. Says once where. */
bool site_awaits_billing(struct site *site, struct err *err);

bool site_is_off(const struct site *site, enum google_api api);
void site_pause(int64_t ms);

/* --- documents (cloud_match.c) -------------------------------------------------------------- */

/* Adds to `names` the members of the wish that differ from what was found (NULL: nothing was); a
 * wished 0, false or "" may also be missing. */
void match_differences(const struct json *wish, const struct json *found, struct strlist *names);

/* Writes what was found, overlaid with the wish: objects member by member, `containers` one by one,
 * `env` by names; other lists as a whole. */
void match_merge(struct json_writer *w, const char *name, const struct json *found,
                 const struct json *wish);

/* --- steps ---------------------------------------------------------------------------------- */

enum verdict_kind { VERDICT_SAME, VERDICT_CREATE, VERDICT_CHANGE };

struct verdict {
    enum verdict_kind kind;
    struct strlist names; /* what differs */
    struct buf note;      /* one more sentence for the person, or empty */
    struct json *found;   /* or NULL */
};
void verdict_done(struct verdict *verdict);
static inline void auto_verdict(struct verdict *verdict)
{
    verdict_done(verdict);
}

struct step;
struct thing;

struct step {
    const char *what; /* "bucket" */
    enum google_api api;
    bool (*wanted)(const struct site *site);                /* NULL: always */
    void (*name)(const struct site *site, struct buf *out); /* for a person */
    int (*look)(struct site *site, const struct step *step, struct verdict *verdict,
                struct err *err);
    /* ERR_CONFLICT and ERR_MISMATCH mean that somebody else was faster: look again. */
    int (*act)(struct site *site, const struct step *step, struct verdict *verdict,
               struct err *err);
    /* For down: *what names what there is to remove (empty: nothing), and verdict->note what stays,
     * and why; the verdict goes to undo(). Both are NULL when there is nothing to undo. */
    int (*survey)(struct site *site, const struct step *step, struct verdict *verdict,
                  struct buf *what, struct err *err);
    int (*undo)(struct site *site, const struct step *step, struct verdict *verdict,
                struct err *err);
    const struct thing *thing; /* of thing_*() */
    int place;                 /* of access_*() */
};

extern const struct step cloud_steps[]; /* ends with a NULL `what` */
extern const struct thing cloud_job_thing;

/* A thing that is one document. */
struct thing {
    const char *permissions; /* with .get, .create, .update, .delete: "storage.buckets" */
    void (*path)(const struct site *site, struct buf *out);
    void (*create_path)(const struct site *site, struct buf *out);
    void (*create)(const struct site *site, struct json_writer *w); /* the body's members */
    /* Writes the members that an existing document must have; NULL: it only must exist. */
    void (*wish)(const struct site *site, const struct json *found, struct json_writer *w);
    /* Appends the query of a change; NULL: it cannot be changed. */
    void (*patch_query)(const struct json *found, struct buf *out);
    /* Writes the body's members, when they are not the wish. */
    void (*patch)(const struct site *site, const struct json *found, const struct json *wish,
                  struct json_writer *w);
    const char *cannot_change; /* what a person can do about that */
};

int thing_look(struct site *site, const struct step *step, struct verdict *verdict,
               struct err *err);
int thing_act(struct site *site, const struct step *step, struct verdict *verdict, struct err *err);
int thing_survey(struct site *site, const struct step *step, struct verdict *verdict,
                 struct buf *what, struct err *err);
int thing_undo(struct site *site, const struct step *step, struct verdict *verdict,
               struct err *err);
/* True when its mark says that set-up made it. */
bool thing_is_ours(const struct json *found);
void thing_add_mark(struct json_writer *w);

/* Who may do what (cloud_access.c). */
enum place {
    ON_BUCKET,
    ON_KEY,
    ON_SECRET,
    ON_PROJECT,
    ON_JOB_ACCOUNT,
    ON_HOME_ACCOUNT,
    ON_JOB,
    ON_PROMPT,
    ON_REPOSITORY,
    ON_SERVICE,
    ON_DOOR,
};
void setup_access_name(const struct site *site, int place, struct buf *out);
int setup_access_look(struct site *site, const struct step *step, struct verdict *verdict,
                      struct err *err);
int setup_access_act(struct site *site, const struct step *step, struct verdict *verdict,
                     struct err *err);
int setup_access_survey(struct site *site, const struct step *step, struct verdict *verdict,
                        struct buf *what, struct err *err);
int setup_access_undo(struct site *site, const struct step *step, struct verdict *verdict,
                      struct err *err);

/* Steps that are not things: one file each, or in cloud_special.c. */
int services_look(struct site *site, const struct step *step, struct verdict *verdict,
                  struct err *err);
int services_act(struct site *site, const struct step *step, struct verdict *verdict,
                 struct err *err);
int project_look(struct site *site, const struct step *step, struct verdict *verdict,
                 struct err *err);
int value_look(struct site *site, const struct step *step, struct verdict *verdict,
               struct err *err);
int value_act(struct site *site, const struct step *step, struct verdict *verdict, struct err *err);
int bucket_look(struct site *site, const struct step *step, struct verdict *verdict,
                struct err *err);
int bucket_survey(struct site *site, const struct step *step, struct verdict *verdict,
                  struct buf *what, struct err *err);
int bucket_undo(struct site *site, const struct step *step, struct verdict *verdict,
                struct err *err);
int role_act(struct site *site, const struct step *step, struct verdict *verdict, struct err *err);
int role_survey(struct site *site, const struct step *step, struct verdict *verdict,
                struct buf *what, struct err *err);
int setup_job_act(struct site *site, const struct step *step, struct verdict *verdict,
                  struct err *err);
int keys_survey(struct site *site, const struct step *step, struct verdict *verdict,
                struct buf *what, struct err *err);
int keys_undo(struct site *site, const struct step *step, struct verdict *verdict, struct err *err);
int billing_look(struct site *site, const struct step *step, struct verdict *verdict,
                 struct err *err);
int billing_act(struct site *site, const struct step *step, struct verdict *verdict,
                struct err *err);
/* The image (cloud_build.c). */
void setup_build_name(const struct site *site, struct buf *out);
int setup_build_look(struct site *site, const struct step *step, struct verdict *verdict,
                     struct err *err);
int setup_build_act(struct site *site, const struct step *step, struct verdict *verdict,
                    struct err *err);
/* The service at Google (cloud_service.c). */
bool setup_wants_service(const struct site *site);
void setup_service_name(const struct site *site, struct buf *out);
void setup_door_name(const struct site *site, struct buf *out);
extern const struct thing cloud_door_thing, cloud_service_thing;
int setup_door_value_look(struct site *site, const struct step *step, struct verdict *verdict,
                          struct err *err);
int setup_door_value_act(struct site *site, const struct step *step, struct verdict *verdict,
                         struct err *err);
/* Says where it is. */
void setup_service_print(struct site *site);
int network_look(struct site *site, const struct step *step, struct verdict *verdict,
                 struct err *err);
int firewall_look(struct site *site, const struct step *step, struct verdict *verdict,
                  struct err *err);
int firewall_act(struct site *site, const struct step *step, struct verdict *verdict,
                 struct err *err);
int firewall_survey(struct site *site, const struct step *step, struct verdict *verdict,
                    struct buf *what, struct err *err);
int firewall_undo(struct site *site, const struct step *step, struct verdict *verdict,
                  struct err *err);
int setup_key_look(struct site *site, const struct step *step, struct verdict *verdict,
                   struct err *err);
int setup_key_act(struct site *site, const struct step *step, struct verdict *verdict,
                  struct err *err);
int setup_key_survey(struct site *site, const struct step *step, struct verdict *verdict,
                     struct buf *what, struct err *err);
int setup_key_undo(struct site *site, const struct step *step, struct verdict *verdict,
                   struct err *err);

/* The sub-commands. */
int setup_setup(int argc, char **argv);
int setup_down(int argc, char **argv);
int setup_check(int argc, char **argv);

#endif
