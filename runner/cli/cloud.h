/*
 * What set-up furnishes at Google, and how its commands speak of it. Private to runner/cli/cloud*.
 *
 * Theory of operation. All that there has to be is a table of steps (cloud_steps.c). Each looks at
 * what is there, decides, and does:
 *
 *     setup:  for each step   look ── same ──────────▶ "unchanged"
 *                              └── absent, different ─▶ do ─▶ "created", "changed: what"
 *     down:   for each step, last first   survey ─▶ ask the person ─▶ undo
 *
 * Nothing is kept between two runs but what is at Google: a run that was cut off is gone on with
 * by the next one. Most steps are things of one kind: a document with a path of its own, which is
 * compared with the one that is wished (cloud_thing.c).
 *
 * Threads: one.
 */
#ifndef CLI_CLOUD_H
#define CLI_CLOUD_H

#include "base/buf.h"
#include "base/strlist.h"
#include "google/google.h"
#include "json/json.h"

#include <stdbool.h>
#include <stdint.h>

#define CLOUD_MARK_LABEL "managed-by" /* with this value: made by set-up */
#define CLOUD_MARK_VALUE "claude-runner"
#define CLOUD_MARK_WORDS "Made by claude-runner cloud setup" /* where there are no labels */
#define CLOUD_PATH_MAX 4096
#define CLOUD_BODY_MAX (4u << 20)
#define CLOUD_SESSIONS "sessions/" /* in the bucket */
#define CLOUD_INPUTS "inputs/"
#define CLOUD_BUILDS "builds/"

/* What is wished. Texts are never NULL unless it says so. */
struct site {
    struct google *google;
    char *project, *region, *bucket, *kms_location, *ring, *key, *secret, *repository, *job, *role;
    char *job_account, *home_account, *build_account; /* e-mail addresses */
    char *image, *create_project;
    char *prompt_secret;    /* SYSTEM_PROMPT_SECRET, when it is one of this project, or NULL */
    char *network, *subnet; /* NULL: no Direct VPC egress is asked for */
    char *key_file;         /* absolute; NULL: the home runner needs none */
    char *impersonator;     /* who may act as the home runner's account, or NULL */
    char *cpu, *memory;     /* NULL: as it is, or the default; so the next two */
    int64_t timeout_s;      /* 0 */
    bool image_given;
    bool service, public; /* the service at Google, and open to whoever has the secret */
    bool images;          /* home may make jobs, for tasks with an image or a size */
    bool no_build;        /* the job keeps its image */
    bool image_made;      /* `image` is, or will be, what Cloud Build has made */
    struct strlist allow; /* PROTOCOL:PORTS or PROTOCOL:PORTS@RANGE */
    struct strlist env;   /* NAME=VALUE, more for the job */
    struct buf value;     /* of the secret; empty: none was given */
    bool has_value;       /* the secret has one */
    bool down, dry_run, yes, force, destroy_key;
    struct strlist off;    /* services that are not enabled: "run.googleapis.com" */
    int64_t billing_until; /* mono: billing is waited for; 0: it was not missing yet */
    bool just_enabled;     /* services were a moment ago: their APIs may not know yet */
    bool just_granted;     /* something was: not everybody may know yet */
    char number[32];       /* of the project */
};

/* --- options (cloud_options.c) -------------------------------------------------------------- */

/* Reads the options of set-up or down and finds the rest in the environment, in ./.env and in the
 * defaults. 0; 1 after --help was printed; -1 with ERR_INVALID or ERR_CONFIG. */
int site_open(struct site *site, bool down, int argc, char **argv, struct err *err);
void site_close(struct site *site);
static inline void auto_site(struct site *site)
{
    site_close(site);
}
/* The secret's value, from --secret-file or stdin. */
int site_read_value(struct site *site, const char *secret_file, struct err *err);

/* The same from the person at the terminal, unseen; nothing when there is none. */
int site_ask_value(struct site *site, struct err *err);

/* Where things are: "projects/P/locations/L/keyRings/R/cryptoKeys/K", … */
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
    const char *permission; /* what it takes: named when it is refused */
    bool once;              /* asked twice it does more than asked once */
    bool leave;             /* what it starts is not waited for */
};

/* One call, and the end of the operation that it may have started. *ret_json (or NULL) is the
 * first answer. */
int site_ask(struct site *site, const struct ask *ask, struct json **ret_json, struct err *err);

/* Lists all pages of GET path (which has a query): calls fn for each of `field`. */
int site_list(struct site *site, const struct ask *ask, const char *field,
              int (*fn)(const struct json *item, void *arg), void *arg, struct err *err);

/* True after a pause, when that was refused because the project has no billing yet and somebody may
 * be about to switch it on: says where, once. */
bool site_awaits_billing(struct site *site, struct err *err);

bool site_is_off(const struct site *site, enum google_api api);
void site_pause(int64_t ms);

/* --- documents (cloud_match.c) -------------------------------------------------------------- */

/* Adds to `names` what of the wish is not so in what was found (NULL: nothing was); a wished 0,
 * false or "" may as well be missing. */
void match_differences(const struct json *wish, const struct json *found, struct strlist *names);

/* Writes what was found with the wish over it: objects member by member, `containers` one by one,
 * `env` by its names; other lists as a whole. */
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
    /* ERR_CONFLICT, ERR_MISMATCH: somebody else was faster, look again. */
    int (*act)(struct site *site, const struct step *step, struct verdict *verdict,
               struct err *err);
    /* Down: says in *what what there is to remove (left empty: nothing), and in verdict->note what
     * stays, and why; the verdict goes to undo(). Both NULL: there is nothing to undo. */
    int (*survey)(struct site *site, const struct step *step, struct verdict *verdict,
                  struct buf *what, struct err *err);
    int (*undo)(struct site *site, const struct step *step, struct verdict *verdict,
                struct err *err);
    const struct thing *thing; /* of thing_*() */
    int place;                 /* of access_*() */
};

extern const struct step cloud_steps[]; /* ends with a NULL `what` */
extern const struct thing cloud_job_thing;

/* A thing of one document. */
struct thing {
    const char *permissions; /* "storage.buckets": .get, .create, .update, .delete below it */
    void (*path)(const struct site *site, struct buf *out);
    void (*create_path)(const struct site *site, struct buf *out);
    void (*create)(const struct site *site, struct json_writer *w); /* the body's members */
    /* What has to be so of the one that is there, its members; NULL: that it is there. */
    void (*wish)(const struct site *site, const struct json *found, struct json_writer *w);
    /* Appends the query; NULL: it cannot be changed. */
    void (*patch_query)(const struct json *found, struct buf *out);
    /* The body's members, when it is not the wish. */
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
/* Made by set-up: it says so. */
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

/* Those that are not things: one file each, or in cloud_special.c. */
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
