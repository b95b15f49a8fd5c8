/* `claude-runner cloud`: setup, check, down. */
#include "runner/cli/cloud.h"
#include "base/auto.h"
#include "runner/cli/cli.h"
#include "runner/client/terminal.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LOOKS_MAX 5 /* how often a step is looked at again when somebody else changes it, too */
#define LOOK_AGAIN_MS 500

/* Any error from Google exits as a failure, whatever its code: 2 is for a wrong call. */
static int fail(const char *command, const struct err *err)
{
    fprintf(stderr, "claude-runner cloud %s: %s\n", command, err->msg);
    return err_exit(err->code);
}

static void add_title(const struct site *site, const struct step *step, struct buf *title)
{
    buf_addf(title, "%s ", step->what);
    step->name(site, title);
}

/* --- setup ---------------------------------------------------------------------------------- */

static struct verdict verdict_new(void)
{
    return (struct verdict){.note = BUF_INIT(1024)};
}

/* Looks at a step. When its API is off, nothing of it can exist. */
static int look(struct site *site, const struct step *step, struct verdict *verdict,
                struct err *err)
{
    if (!site_is_off(site, step->api) || step->look == setup_key_look)
        return step->look(site, step, verdict, err);
    /* An account that pays is made by nobody here, and may be there already. */
    bool made = step->act && step->look != billing_look;
    verdict->kind = made ? VERDICT_CREATE : VERDICT_SAME;
    if (step->look == billing_look)
        buf_adds(&verdict->note, "not seen before its service is on");
    return 0;
}

/* Carries out a step. What appeared meanwhile counts as made by this run: it was not there
 * before. */
static int carry_out(struct site *site, const struct step *step, struct verdict *verdict,
                     struct err *err)
{
    const enum verdict_kind first = verdict->kind;
    for (int looks = 1; verdict->kind != VERDICT_SAME; looks++) {
        if (step->act(site, step, verdict, err) == 0)
            return 0;
        if (site_awaits_billing(site, err))
            looks--;
        else if ((err->code != ERR_CONFLICT && err->code != ERR_MISMATCH) || looks == LOOKS_MAX)
            return -1;
        site_pause(LOOK_AGAIN_MS);
        verdict_done(verdict);
        *verdict = verdict_new();
        if (look(site, step, verdict, err))
            return -1;
    }
    verdict->kind = first;
    return 0;
}

static void tell(const struct site *site, const struct step *step, const struct verdict *verdict)
{
    static const char *const words[][2] = {[VERDICT_SAME] = {"unchanged", "unchanged"},
                                           [VERDICT_CREATE] = {"created", "would be created"},
                                           [VERDICT_CHANGE] = {"changed", "would be changed"}};
    AUTO(buf) struct buf line = BUF_INIT(8192);
    add_title(site, step, &line);
    buf_addf(&line, ": %s",
             !step->act && verdict->kind == VERDICT_SAME ? "there"
                                                         : words[verdict->kind][site->dry_run]);
    if (verdict->kind == VERDICT_CHANGE && verdict->names.count > 0) {
        buf_adds(&line, ": ");
        strlist_join(&verdict->names, ", ", &line);
    }
    if (verdict->note.len > 0)
        buf_addf(&line, " (%s)", buf_str(&verdict->note));
    puts(buf_str(&line));
    fflush(stdout);
}

static int run_step(struct site *site, const struct step *step, int counts[3], struct err *err)
{
    AUTO(verdict) struct verdict verdict = verdict_new();
    AUTO(buf) struct buf title = BUF_INIT(1024);
    if (step->wanted && !step->wanted(site))
        return 0;
    add_title(site, step, &title);
    if (look(site, step, &verdict, err) || (!site->dry_run && carry_out(site, step, &verdict, err)))
        return err_wrap(err, "%s", buf_str(&title));
    tell(site, step, &verdict);
    counts[verdict.kind]++;
    return 0;
}

static void print_next(struct site *site)
{
    printf("\nFor .env of the runner at home:\n\n"
           "OVERFLOW=full\nGCP_PROJECT_ID=%s\nGCP_REGION=%s\nCLOUDRUN_JOB_NAME=%s\n"
           "GCS_LOGS_BUCKET=%s\nKMS_LOCATION=%s\nKMS_KEY_RING=%s\nKMS_KEY_NAME=%s\n",
           site->project, site->region, site->job, site->bucket, site->kms_location, site->ring,
           site->key);
    if (site->has_value)
        printf("CLOUD_API_KEY_SECRET=%s\n", site->secret);
    if (site->key_file)
        printf("GOOGLE_APPLICATION_CREDENTIALS=%s\n", site->key_file);
    if (site->impersonator)
        printf("GOOGLE_IMPERSONATE_SERVICE_ACCOUNT=%s\n", site->home_account);
    if (site->no_build)
        printf("\nThe job's image, from the runner's sources:\n\n"
               "docker build --target job --platform linux/amd64 -t %s -f runner/Dockerfile .\n"
               "gcloud auth configure-docker %s-docker.pkg.dev\n"
               "docker push %s\n",
               site->image, site->region, site->image);
    setup_service_print(site);
    puts("\nThen: claude-runner cloud check");
}

static int run_steps(struct site *site)
{
    struct err err;
    int counts[3] = {0}, status = 0;
    for (const struct step *step = cloud_steps; step->what; step++) {
        if (run_step(site, step, counts, &err) == 0)
            continue;
        fail("setup", &err);
        status = 1;
        if (!site->dry_run || err.code == ERR_TIMEOUT || err.code == ERR_UPSTREAM)
            return 1; /* A dry run continues past what it may not look at. */
    }
    if (site->dry_run)
        printf("\n%d would be created, %d would be changed, %d unchanged\n", counts[VERDICT_CREATE],
               counts[VERDICT_CHANGE], counts[VERDICT_SAME]);
    else
        print_next(site);
    return status ? status : fflush(stdout) ? 1 : 0;
}

int setup_setup(int argc, char **argv)
{
    struct err err;
    AUTO(site) struct site site = {0};
    int opened = site_open(&site, false, argc, argv, &err);
    if (opened)
        return opened > 0 ? 0 : fail("setup", &err);
    return run_steps(&site);
}

/* --- down ----------------------------------------------------------------------------------- */

#define STEPS_MAX 64

struct removal {
    const struct step *step;
    struct verdict verdict;
};

struct removals {
    struct removal items[STEPS_MAX];
    size_t count;
};

static void removals_done(struct removals *removals)
{
    for (size_t i = 0; i < removals->count; i++)
        verdict_done(&removals->items[i].verdict);
}

static inline void auto_removals(struct removals *removals)
{
    removals_done(removals);
}

static int survey_step(struct site *site, const struct step *step, struct removals *removals,
                       struct err *err)
{
    AUTO(verdict) struct verdict verdict = verdict_new();
    AUTO(buf) struct buf title = BUF_INIT(1024), what = BUF_INIT(4096);
    if (!step->survey || (step->wanted && !step->wanted(site)))
        return 0;
    add_title(site, step, &title);
    if (site_is_off(site, step->api))
        return 0;
    if (step->survey(site, step, &verdict, &what, err))
        return err_wrap(err, "%s", buf_str(&title));
    if (verdict.note.len > 0)
        printf("%s: %s\n", buf_str(&title), buf_str(&verdict.note));
    if (what.len == 0 || removals->count == STEPS_MAX)
        return 0;
    printf("%s: %s %s\n", buf_str(&title), site->dry_run ? "would be" : "will be", buf_str(&what));
    removals->items[removals->count++] = (struct removal){.step = step, .verdict = verdict};
    verdict = (struct verdict){0};
    return 0;
}

static const struct step *last_step(void)
{
    const struct step *step = cloud_steps;
    while (step[1].what)
        step++;
    return step;
}

static int survey(struct site *site, struct removals *removals, struct err *err)
{
    AUTO(verdict) struct verdict services = verdict_new();
    const struct step *step = last_step();
    if (services_look(site, cloud_steps, &services, err))
        return -1;
    for (;; step--) {
        if (survey_step(site, step, removals, err))
            return -1;
        if (step == cloud_steps)
            return 0;
    }
}

static bool is_sure(const struct site *site)
{
    char answer[16];
    if (site->yes)
        return true;
    fflush(stdout);
    fprintf(stderr, "\nRemove that from project %s? Type yes: ", site->project);
    return terminal_read_line(answer, sizeof(answer), false, NULL) == 0 &&
           strcmp(answer, "yes") == 0;
}

static int take_down(struct site *site, struct removals *removals, struct err *err)
{
    for (size_t i = 0; i < removals->count; i++) {
        struct removal *removal = &removals->items[i];
        AUTO(buf) struct buf title = BUF_INIT(1024);
        add_title(site, removal->step, &title);
        if (removal->step->undo(site, removal->step, &removal->verdict, err))
            return err_wrap(err, "%s", buf_str(&title));
        printf("%s: removed\n", buf_str(&title));
        fflush(stdout);
    }
    return 0;
}

int setup_down(int argc, char **argv)
{
    struct err err;
    AUTO(site) struct site site = {0};
    AUTO(removals) struct removals removals = {0};
    int opened = site_open(&site, true, argc, argv, &err);
    if (opened)
        return opened > 0 ? 0 : fail("down", &err);
    if (!site.yes && !site.dry_run && !isatty(STDIN_FILENO)) {
        err_set(&err, ERR_INVALID, "nobody is there to be asked: --yes, or --dry-run");
        return fail("down", &err);
    }
    if (survey(&site, &removals, &err)) {
        fail("down", &err);
        return 1;
    }
    if (removals.count == 0 || site.dry_run) {
        puts(removals.count ? "\nNothing has been removed." : "There is nothing to remove.");
        return fflush(stdout) ? 1 : 0;
    }
    if (!is_sure(&site)) {
        err_set(&err, ERR_CONFLICT, "nothing has been removed");
        return fail("down", &err);
    }
    if (take_down(&site, &removals, &err)) {
        fail("down", &err);
        return 1;
    }
    puts("The services stay enabled: others may use them.");
    return fflush(stdout) ? 1 : 0;
}

/* --- the command ---------------------------------------------------------------------------- */

static const struct {
    const char *name;
    const char *help;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"setup", "make at Google Cloud what tasks need that run there", setup_setup},
    {"check", "try it, from both ends, by running a trivial task", setup_check},
    {"down", "remove what set-up has made", setup_down},
};

int cli_cloud(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    bool help = strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0;
    for (size_t i = 0; i < COUNT_OF(commands); i++)
        if (strcmp(commands[i].name, name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    if (*name && !help)
        fprintf(stderr, "claude-runner cloud: there is no '%.80s'\n", name);
    fputs("usage: claude-runner cloud COMMAND [OPTIONS]\n\n", help ? stdout : stderr);
    for (size_t i = 0; i < COUNT_OF(commands); i++)
        fprintf(help ? stdout : stderr, "  %-10s %s\n", commands[i].name, commands[i].help);
    fputs("\nEach takes --help.\n", help ? stdout : stderr);
    return help ? 0 : 2;
}
