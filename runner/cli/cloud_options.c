/* Reads the options, the environment and ./.env, and fills in defaults. */
#include "base/auto.h"
#include "base/fd.h"
#include "base/form.h"
#include "base/path.h"
#include "base/str.h"
#include "google/jobs.h"
#include "google/secret.h"
#include "runner/cli/cloud.h"
#include "runner/client/terminal.h"
#include "runner/config/vars.h"
#include "runner/overflow/folder.h"

#include <ctype.h>
#include <getopt.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STDIN_MS 10000
#define TIMEOUT_MAX_MINUTES 10080

#define NAMES_HELP                                                                      \
    "  --project ID          the project (GCP_PROJECT_ID; default: the credentials')\n" \
    "  --region R            where it is (GCP_REGION; us-central1)\n"                   \
    "  --bucket NAME         (GCS_LOGS_BUCKET; PROJECT-claude-runner)\n"                \
    "  --kms-location L      (KMS_LOCATION; global)\n"                                  \
    "  --key-ring NAME       (KMS_KEY_RING; claude-runner)\n"                           \
    "  --key NAME            (KMS_KEY_NAME; payload)\n"                                 \
    "  --secret NAME         (CLOUD_API_KEY_SECRET; claude-runner-api-key)\n"           \
    "  --job NAME            (CLOUDRUN_JOB_NAME; claude-runner)\n"                      \
    "  --repository NAME     for the image (claude-runner)\n"                           \
    "  --job-account ID      who the job is (claude-runner-job)\n"                      \
    "  --home-account ID     who the runner at home is (claude-runner-home)\n"          \
    "  --build-account ID    who makes the image (claude-runner-build)\n"               \
    "  --role ID             what home may do with the job (claudeRunnerHome)\n"        \
    "  --key-file FILE       home's key (./claude-runner-key.json)\n"
#define CREDENTIALS_HELP                                                                           \
    "\n"                                                                                           \
    "It acts as whoever GOOGLE_APPLICATION_CREDENTIALS in the environment, gcloud's application\n" \
    "default login or the metadata server says. Names that are not given are looked up in ./.env " \
    "as well.\n"

static const char setup_usage[] =
    "usage: claude-runner cloud setup [OPTIONS] [<FILE-WITH-THE-API-KEY]\n"
    "\n"
    "Makes at Google Cloud what tasks need that run there, and changes what is not as it should\n"
    "be. Run again it goes on, or says that nothing has changed.\n"
    "\n"
    "  --dry-run             say what would be done\n" NAMES_HELP
    "  --create-project ID   make that project, unless it is there\n"
    "  --images              home may make jobs: for tasks with an image or a size of their own\n"
    "  --service             the same service at Google, too: a second door when home is away\n"
    "  --public              open to whoever has its secret; else callers need run.invoker\n"
    "  --no-key              no key file: home has the account otherwise\n"
    "  --impersonate MEMBER  no key file: MEMBER (user:…, serviceAccount:…) may act as home\n"
    "  --secret-file FILE    the API key for tasks, instead of stdin\n"
    "  --image NAME          take this image for the job; else Cloud Build makes one out of the\n"
    "                        sources that are in this program\n"
    "  --no-build            leave the image as it is\n"
    "  --cpu N, --memory N   of an execution (1, 2Gi)\n"
    "  --timeout MINUTES     at most (60)\n"
    "  --env NAME=VALUE      one more variable of the job (and the service); may be repeated\n"
    "  --vpc NETWORK/SUBNET  traffic leaves through this network; let out is 443, and what\n"
    "  --allow PROTOCOL:PORTS[@RANGE]  names: tcp:22, udp:53@10.0.0.2/32; may be repeated\n"
    "\n"
    "What an existing job has and no option names stays as it is.\n" CREDENTIALS_HELP;

static const char down_usage[] =
    "usage: claude-runner cloud down [OPTIONS]\n"
    "\n"
    "Removes what set-up has made; asks first.\n"
    "\n"
    "  --yes                 do not ask\n"
    "  --force               the bucket also with what no task has put there\n"
    "  --destroy-key         destroy the key's versions: nothing that they sealed opens again\n"
    "  --dry-run             only say what would be removed\n" NAMES_HELP CREDENTIALS_HELP;

/* --- texts ---------------------------------------------------------------------------------- */

/* Names of resources: option, member, variable or NULL, default (with a % for the project). */
static const struct {
    const char *option;
    size_t member;
    const char *variable, *otherwise;
} names[] = {
    {"region", offsetof(struct site, region), "GCP_REGION", "us-central1"},
    {"bucket", offsetof(struct site, bucket), "GCS_LOGS_BUCKET", "%-claude-runner"},
    {"kms-location", offsetof(struct site, kms_location), "KMS_LOCATION", "global"},
    {"key-ring", offsetof(struct site, ring), "KMS_KEY_RING", "claude-runner"},
    {"key", offsetof(struct site, key), "KMS_KEY_NAME", "payload"},
    {"secret", offsetof(struct site, secret), "CLOUD_API_KEY_SECRET", "claude-runner-api-key"},
    {"job", offsetof(struct site, job), "CLOUDRUN_JOB_NAME", "claude-runner"},
    {"repository", offsetof(struct site, repository), NULL, "claude-runner"},
    {"job-account", offsetof(struct site, job_account), NULL, "claude-runner-job"},
    {"home-account", offsetof(struct site, home_account), NULL, "claude-runner-home"},
    {"build-account", offsetof(struct site, build_account), NULL, "claude-runner-build"},
    {"role", offsetof(struct site, role), NULL, "claudeRunnerHome"},
};

static char **member_at(struct site *site, size_t offset)
{
    return (char **)(void *)((char *)site + offset);
}

static int put(char **to, const char *text, struct err *err)
{
    return str_replace(to, text) ? err_sys(err, "options") : 0;
}

static int check_name(const char *what, const char *text, struct err *err)
{
    size_t len = strlen(text);
    bool good = len > 0 && len <= 128 && isalnum((unsigned char)text[0]) &&
                text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "-_.:")] == '\0';
    return good ? 0
                : err_set(err, ERR_INVALID, "%s: '%.80s' is no plain name of letters, digits, -_.",
                          what, text);
}

/* --- one option ----------------------------------------------------------------------------- */

struct given {
    const char *project, *create_project, *vpc, *key_file, *secret_file;
    bool no_key;
};

static int take_quantity(char **to, const char *name, const char *text, struct err *err)
{
    double value;
    if (jobs_quantity(text, &value) || value <= 0)
        return err_set(err, ERR_INVALID, "--%s: '%.40s' is no amount like 2, 1000m, 2Gi", name,
                       text);
    return put(to, text, err);
}

static int take_timeout(struct site *site, const char *text, struct err *err)
{
    int64_t minutes;
    if (str_to_int(text, 1, TIMEOUT_MAX_MINUTES, &minutes))
        return err_set(err, ERR_INVALID, "--timeout: '%.40s' is not 1..%d minutes", text,
                       TIMEOUT_MAX_MINUTES);
    site->timeout_s = minutes * 60;
    return 0;
}

static int take_env(struct site *site, const char *text, struct err *err)
{
    const char *equals = strchr(text, '=');
    AUTO(str) char *name = equals ? str_copy(text, (size_t)(equals - text)) : NULL;
    if (!name || !form_is_env_name(name))
        return err_set(err, ERR_INVALID, "--env: '%.40s' is not NAME=VALUE", text);
    return strlist_add(&site->env, text) ? err_sys(err, "options") : 0;
}

/* Reads tcp:22, tcp:8000-8010, icmp, udp:53@10.0.0.2/32. */
static int take_allow(struct site *site, const char *text, struct err *err)
{
    size_t protocol = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789");
    size_t ports = text[protocol] == ':' ? strspn(text + protocol + 1, "0123456789-") : 0;
    const char *rest = text + protocol + (ports ? ports + 1 : 0);
    bool ranged = *rest == '@' && rest[1] && !rest[1 + strspn(rest + 1, "0123456789abcdef.:/")];
    if (protocol == 0 || (*rest && !ranged))
        return err_set(err, ERR_INVALID, "--allow: '%.60s' is not PROTOCOL:PORTS[@RANGE]", text);
    return strlist_add(&site->allow, text) ? err_sys(err, "options") : 0;
}

static int take_vpc(struct site *site, const char *text, struct err *err)
{
    const char *slash = strchr(text, '/');
    AUTO(str) char *network = slash ? str_copy(text, (size_t)(slash - text)) : NULL;
    if (!network)
        return err_set(err, ERR_INVALID, "--vpc: '%.80s' is not NETWORK/SUBNET", text);
    return check_name("--vpc", network, err) || check_name("--vpc", slash + 1, err) ||
                   put(&site->network, network, err) || put(&site->subnet, slash + 1, err)
               ? -1
               : 0;
}

static int take_member(struct site *site, const char *text, struct err *err)
{
    if (!str_starts(text, "user:") && !str_starts(text, "serviceAccount:") &&
        !str_starts(text, "group:"))
        return err_set(err, ERR_INVALID,
                       "--impersonate: '%.80s' is not user:…, serviceAccount:… or group:…", text);
    return put(&site->impersonator, text, err);
}

static int take_name(struct site *site, const char *name, const char *text, struct err *err)
{
    char option[32];
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (strcmp(names[i].option, name) == 0) {
            snprintf(option, sizeof(option), "--%s", name);
            return check_name(option, text, err) || put(member_at(site, names[i].member), text, err)
                       ? -1
                       : 0;
        }
    return err_set(err, ERR_INVALID, "there is no option --%s", name);
}

static int take_switch(struct site *site, struct given *given, const char *name)
{
    const struct {
        const char *name;
        bool *flag;
    } flags[] = {{"dry-run", &site->dry_run},   {"yes", &site->yes},
                 {"force", &site->force},       {"destroy-key", &site->destroy_key},
                 {"no-build", &site->no_build}, {"images", &site->images},
                 {"service", &site->service},   {"public", &site->public},
                 {"no-key", &given->no_key}};
    for (size_t i = 0; i < COUNT_OF(flags); i++)
        if (strcmp(flags[i].name, name) == 0) {
            *flags[i].flag = true;
            return 1;
        }
    return 0;
}

static int take(struct site *site, struct given *given, const char *name, const char *value,
                struct err *err)
{
    const struct {
        const char *name;
        const char **text;
    } texts[] = {{"project", &given->project},
                 {"create-project", &given->create_project},
                 {"key-file", &given->key_file},
                 {"secret-file", &given->secret_file}};
    if (take_switch(site, given, name))
        return 0;
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        if (strcmp(texts[i].name, name) == 0) {
            *texts[i].text = value;
            return 0;
        }
    if (strcmp(name, "image") == 0) {
        site->image_given = true;
        return form_is_token(value) ? put(&site->image, value, err)
                                    : err_set(err, ERR_INVALID, "--image: no name of an image");
    }
    if (strcmp(name, "cpu") == 0 || strcmp(name, "memory") == 0)
        return take_quantity(*name == 'c' ? &site->cpu : &site->memory, name, value, err);
    return strcmp(name, "timeout") == 0       ? take_timeout(site, value, err)
           : strcmp(name, "env") == 0         ? take_env(site, value, err)
           : strcmp(name, "allow") == 0       ? take_allow(site, value, err)
           : strcmp(name, "vpc") == 0         ? take_vpc(site, value, err)
           : strcmp(name, "impersonate") == 0 ? take_member(site, value, err)
                                              : take_name(site, name, value, err);
}

static int read_options(struct site *site, struct given *given, int argc, char **argv,
                        struct err *err)
{
#define WITH(name)                         \
    {                                      \
        name, required_argument, NULL, 'v' \
    }
#define FLAG(name)                   \
    {                                \
        name, no_argument, NULL, 'v' \
    }
#define NAMES                                                                                \
    WITH("project"), WITH("region"), WITH("bucket"), WITH("kms-location"), WITH("key-ring"), \
        WITH("key"), WITH("secret"), WITH("job"), WITH("repository"), WITH("job-account"),   \
        WITH("home-account"), WITH("build-account"), WITH("role"), WITH("key-file"),         \
        FLAG("dry-run"),                                                                     \
    {                                                                                        \
        "help", no_argument, NULL, 'h'                                                       \
    }
    static const struct option for_setup[] = {NAMES,
                                              FLAG("no-key"),
                                              WITH("impersonate"),
                                              WITH("secret-file"),
                                              WITH("image"),
                                              WITH("cpu"),
                                              WITH("memory"),
                                              WITH("timeout"),
                                              WITH("env"),
                                              WITH("vpc"),
                                              WITH("allow"),
                                              FLAG("no-build"),
                                              FLAG("images"),
                                              FLAG("service"),
                                              FLAG("public"),
                                              WITH("create-project"),
                                              {NULL, 0, NULL, 0}};
    static const struct option for_down[] = {
        NAMES, FLAG("yes"), FLAG("force"), FLAG("destroy-key"), {NULL, 0, NULL, 0}};
#undef NAMES
#undef FLAG
#undef WITH
    const struct option *known = site->down ? for_down : for_setup;
    int got, index = 0;
    while ((got = getopt_long(argc, argv, "h", known, &index)) != -1) {
        if (got == 'h')
            return fputs(site->down ? down_usage : setup_usage, stdout) < 0 ? -1 : 1;
        if (got != 'v')
            return err_set(err, ERR_INVALID, "see claude-runner cloud %s --help", argv[0]);
        if (take(site, given, known[index].name, optarg, err))
            return -1;
    }
    if (optind < argc)
        return err_set(err, ERR_INVALID, "unexpected '%.80s'", argv[optind]);
    if (site->allow.count > 0 && !site->network)
        return err_set(err, ERR_INVALID, "--allow goes with --vpc");
    return 0;
}

/* --- the rest ------------------------------------------------------------------------------- */

static const char *find(const struct vars *env, const struct vars *file, const char *name)
{
    const char *value = name ? vars_get(env, name) : NULL;
    return value || !name ? value : vars_get(file, name);
}

static int fill_project(struct site *site, const struct given *given, const struct vars *env,
                        const struct vars *file, struct err *err)
{
    const char *project = given->project ? given->project : find(env, file, "GCP_PROJECT_ID");
    if (!project)
        project = find(env, file, "GCS_PROJECT_ID");
    if (!project)
        project = google_project(site->google);
    if (given->create_project)
        return check_name("--create-project", given->create_project, err) ||
                       put(&site->create_project, given->create_project, err)
                   ? -1
                   : site_find_project(site, err);
    if (!project)
        return site_find_project(site, err);
    return check_name("the project", project, err) || put(&site->project, project, err) ? -1 : 0;
}

static int fill_names(struct site *site, const struct vars *env, const struct vars *file,
                      struct err *err)
{
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char **to = member_at(site, names[i].member);
        const char *value = find(env, file, names[i].variable);
        AUTO(str) char *made = NULL;
        if (*to)
            continue;
        if (!value && *names[i].otherwise == '%')
            value =
                asprintf(&made, "%s%s", site->project, names[i].otherwise + 1) < 0 ? NULL : made;
        else if (!value)
            value = names[i].otherwise;
        if (!value)
            return err_sys(err, "names");
        if (check_name(names[i].variable ? names[i].variable : names[i].option, value, err) ||
            put(to, value, err))
            return -1;
    }
    return 0;
}

/* Reads the name of the secret with the system prompt; only one of this project counts. */
static int fill_prompt(struct site *site, const struct vars *env, const struct vars *file,
                       struct err *err)
{
    const char *name = find(env, file, "SYSTEM_PROMPT_SECRET");
    const char *slash = name && str_starts(name, "projects/") ? strstr(name, "/secrets/") : NULL;
    if (slash) {
        size_t len = strlen(site->project);
        bool ours = strncmp(name + strlen("projects/"), site->project, len) == 0 &&
                    name[strlen("projects/") + len] == '/';
        name = ours ? slash + strlen("/secrets/") : NULL;
    }
    return name && (check_name("SYSTEM_PROMPT_SECRET", name, err) ||
                    put(&site->prompt_secret, name, err))
               ? -1
               : 0;
}

/* Makes ID@PROJECT.iam.gserviceaccount.com of ID; there a project "domain:name" is written
 * "name.domain". */
static int make_email(const struct site *site, char **id, struct err *err)
{
    char *email = NULL;
    const char *colon = strchr(site->project, ':');
    int n = colon ? asprintf(&email, "%s@%s.%.*s.iam.gserviceaccount.com", *id, colon + 1,
                             (int)(colon - site->project), site->project)
                  : asprintf(&email, "%s@%s.iam.gserviceaccount.com", *id, site->project);
    if (n < 0)
        return err_sys(err, "names");
    free(*id);
    *id = email;
    return 0;
}

static int fill_rest(struct site *site, const struct given *given, struct err *err)
{
    const char *file = given->key_file ? given->key_file : "claude-runner-key.json";
    AUTO(str) char *here = *file == '/' ? NULL : getcwd(NULL, 0);
    if (make_email(site, &site->job_account, err) || make_email(site, &site->home_account, err) ||
        make_email(site, &site->build_account, err))
        return -1;
    if (!given->no_key && !site->impersonator) {
        site->key_file = here ? path_join(here, file) : strdup(file);
        if (!site->key_file)
            return err_sys(err, "names");
    }
    if (!site->image && asprintf(&site->image, "%s-docker.pkg.dev/%s/%s/claude-runner:latest",
                                 site->region, site->project, site->repository) < 0) {
        site->image = NULL;
        return err_sys(err, "names");
    }
    return 0;
}

/* Finds a login where Google's libraries find none. Names the two ways to get one, and takes the
 * second at once when somebody is at the terminal. */
static int find_token(struct site *site, struct err *err)
{
    char line[4096] = "";
    struct err none;
    const char *token = getenv("CLOUDSDK_AUTH_ACCESS_TOKEN"); /* gcloud's own variable */
    if (!token && google_login(site->google, &none) == 0)
        return 0;
    if (!token && none.code != ERR_FORBIDDEN) {
        *err = none;
        return -1;
    }
    if (!token && isatty(STDIN_FILENO)) {
        fputs("No login of Google's is here. Either:\n"
              "  - gcloud auth application-default login, where gcloud is installed; then this "
              "again\n"
              "  - in a browser, where nothing is to be installed: https://shell.cloud.google.com\n"
              "      gcloud auth print-access-token\n"
              "Paste what that prints (it is good for an hour; empty: leave): ",
              stderr);
        if (terminal_read_line(line, sizeof(line), true, NULL) == 0 && form_is_token(line))
            token = line;
    }
    if (!token)
        return err_set(err, ERR_CONFIG,
                       "no login of Google's is here: `gcloud auth application-default login`, or "
                       "`gcloud auth print-access-token` at https://shell.cloud.google.com and "
                       "CLOUDSDK_AUTH_ACCESS_TOKEN=<what it prints> here");
    int rc = google_use_token(site->google, token, err);
    explicit_bzero(line, sizeof(line));
    return rc;
}

/* Without the credentials of ./.env: they are the home runner's. */
static int open_google(struct site *site, struct err *err)
{
    AUTO(config_report) struct config_report report = {0};
    const struct config_source source = {.env = environ, .no_callers = true};
    AUTO(config) struct config *config = config_load(&source, &report, err);
    if (!config)
        return report.errors.count > 0 ? err_set(err, ERR_CONFIG, "%s", report.errors.items[0])
                                       : -1;
    site->google = cloud_google(config, err);
    bool named = config->google_application_credentials || config->gce_metadata_host;
    return site->google && (named || find_token(site, err) == 0) ? 0 : -1;
}

int site_open(struct site *site, bool down, int argc, char **argv, struct err *err)
{
    AUTO(vars) struct vars env = {0}, file = {0};
    AUTO(strlist) struct strlist ignored = STRLIST_INIT;
    struct given given = {0};
    *site = (struct site){.down = down, .value = BUF_INIT(SECRET_BYTES_MAX)};
    int rc = read_options(site, &given, argc, argv, err);
    if (rc)
        return rc;
    vars_read_env(&env, environ);
    if (access(".env", R_OK) == 0)
        vars_read_file(&file, "--env-file", ".env", &ignored);
    if (open_google(site, err) || fill_project(site, &given, &env, &file, err) ||
        google_charge(site->google, site->project, err) || fill_names(site, &env, &file, err) ||
        fill_prompt(site, &env, &file, err) || fill_rest(site, &given, err))
        return -1;
    return down ? 0 : site_read_value(site, given.secret_file, err);
}

void site_close(struct site *site)
{
    char *const owned[] = {
        site->project,        site->region,       site->bucket,
        site->kms_location,   site->ring,         site->key,
        site->secret,         site->repository,   site->job,
        site->role,           site->image,        site->network,
        site->job_account,    site->home_account, site->subnet,
        site->prompt_secret,  site->key_file,     site->cpu,
        site->impersonator,   site->memory,       site->build_account,
        site->create_project,
    };
    for (size_t i = 0; i < COUNT_OF(owned); i++)
        free(owned[i]);
    google_free(site->google);
    strlist_done(&site->allow);
    strlist_done(&site->env);
    strlist_done(&site->off);
    buf_wipe(&site->value);
}

void site_add_key(const struct site *site, struct buf *out)
{
    buf_addf(out, "projects/%s/locations/%s/keyRings/%s/cryptoKeys/%s", site->project,
             site->kms_location, site->ring, site->key);
}

void site_add_job(const struct site *site, struct buf *out)
{
    buf_addf(out, "projects/%s/locations/%s/jobs/%s", site->project, site->region, site->job);
}

/* --- the secret's value --------------------------------------------------------------------- */

/* Reads the value from stdin. Does not wait when stdin is open but nobody writes. */
static int read_stdin(struct site *site, struct err *err)
{
    for (;;) {
        struct pollfd pfd = {.fd = STDIN_FILENO, .events = POLLIN};
        int ready = poll(&pfd, 1, STDIN_MS);
        char *room = buf_room(&site->value, 4096);
        if (ready == 0)
            return err_set(err, ERR_INVALID,
                           "nothing comes from stdin, where the API key is read: </dev/null for "
                           "none");
        if (!room)
            return err_set(err, ERR_INVALID, "what comes from stdin is too long for an API key");
        ssize_t n = read(STDIN_FILENO, room, 4096);
        if (n < 0)
            return err_sys(err, "stdin");
        if (n == 0)
            return 0;
        buf_grew(&site->value, (size_t)n);
    }
}

static int check_value(struct buf *value, struct err *err)
{
    while (value->len > 0 && strchr(" \t\r\n", value->data[value->len - 1]))
        value->data[--value->len] = '\0';
    if (value->len == 0 || (strlen(value->data) == value->len && form_is_token(value->data)))
        return 0;
    return err_set(err, ERR_INVALID,
                   "the API key has to be one line of printable ASCII without spaces");
}

int site_read_value(struct site *site, const char *secret_file, struct err *err)
{
    struct buf *value = &site->value;
    if (secret_file && file_read(secret_file, value, err))
        return err_wrap(err, "--secret-file");
    if (!secret_file && !isatty(STDIN_FILENO) && read_stdin(site, err))
        return -1;
    if (check_value(value, err))
        return -1;
    return secret_file && value->len == 0
               ? err_set(err, ERR_INVALID, "--secret-file: '%.100s' is empty", secret_file)
               : 0;
}

int site_ask_value(struct site *site, struct err *err)
{
    char line[4096] = "";
    if (site->dry_run || !isatty(STDIN_FILENO))
        return 0;
    fputs("API key for tasks that bring none (empty: none): ", stderr);
    if (terminal_read_line(line, sizeof(line), true, NULL) == 0)
        buf_adds(&site->value, line);
    explicit_bzero(line, sizeof(line));
    return check_value(&site->value, err);
}
