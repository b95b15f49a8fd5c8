#include "runner/oauth/alert.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "base/thread.h"
#include "net/net.h"
#include "json/json.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FILE_NAME "alerted"
#define TICK_S 1
#define SURE_MS 10000 /* After one failed refresh, the next usually succeeds. */
#define CONNECT_MS 3000
#define CALL_MS 5000
#define RETRY_MIN_MS 5000
#define RETRY_MAX_MS 900000
#define TRIES_MAX 100 /* about a day */
#define TEXT_MAX 2048
#define URL_MAX 8192
#define HOW "Log in again: open /login on the runner, or run `claude auth login` there."

#define END_AHEAD_MS \
    (3 * INT64_C(86400000)) /* before the end of the login itself, which no refresh extends */

enum verdict { FINE, UNKNOWN, TROUBLE_SOON, TROUBLE_END, TROUBLE_LOGIN };

struct facts {
    struct keeper_status login;
    bool held; /* the breaker holds tasks until there is a login */
    int waiting;
    int64_t limit_ms;
};

struct alert {
    struct alert_config config;
    char *path;
    char host[64];
    _Atomic int64_t sent_ms; /* real: when the last alert was delivered; 0: none */
    struct thread thread;
    struct lock lock; /* guards the stop flag */
    pthread_cond_t stop;
    bool stopping;

    /* Used by the looking thread only: */
    bool told;        /* this episode's alert was delivered */
    enum verdict of;  /* what it said, when it was sent since the start */
    int64_t since_ms; /* mono: trouble since; 0: none */
    int64_t retry_ms; /* pause after the next failure */
    int64_t next_ms;  /* mono: the next try */
    int tries;
};

/* --- judging ------------------------------------------------------------------------------- */

static void gather(struct alert *alert, const struct config *config, struct facts *facts)
{
    struct breaker_status breaker = {0};
    keeper_status(alert->config.keeper, &facts->login);
    if (alert->config.breaker)
        breaker_status(alert->config.breaker, &breaker);
    facts->held = breaker.state == BREAKER_LOGIN;
    facts->waiting = alert->config.waiting ? alert->config.waiting(alert->config.arg) : 0;
    facts->limit_ms = (int64_t)config->oauth_alert_hours * 3600000;
}

static enum verdict judge(const struct facts *facts)
{
    const struct keeper_status *login = &facts->login;
    bool tried = login->refreshed_ms > 0;
    bool ends_soon = login->expires_ms > 0 && login->remaining_ms < facts->limit_ms;
    if (login->state == LOGIN_REFUSED || login->state == LOGIN_EXPIRED)
        return TROUBLE_LOGIN;
    if (login->state != LOGIN_OK || facts->held)
        return facts->waiting > 0 ? TROUBLE_LOGIN : UNKNOWN;
    if (login->login_expires_ms > 0 && login->login_expires_ms - clock_real_ms() < END_AHEAD_MS)
        return TROUBLE_END;
    if (ends_soon && (!login->refreshable || (tried && !login->refresh_ok)))
        return TROUBLE_SOON;
    if (!ends_soon || (tried && login->refresh_ok))
        return FINE;
    return UNKNOWN;
}

/* --- words --------------------------------------------------------------------------------- */

struct words {
    const char *event, *title, *priority;
    char text[TEXT_MAX];
};

static void find_words(const struct alert *alert, const struct facts *facts, enum verdict verdict,
                       struct words *words)
{
    char tasks[64] = "";
    double hours = (double)facts->login.remaining_ms / 3600000.0;
    if (facts->waiting > 0)
        snprintf(tasks, sizeof(tasks), " %d task%s wait%s for it.", facts->waiting,
                 facts->waiting == 1 ? "" : "s", facts->waiting == 1 ? "s" : "");
    if (verdict == TROUBLE_SOON) {
        words->event = "login_ends";
        words->title = "Claude login ends soon";
        words->priority = "high";
        snprintf(words->text, sizeof(words->text),
                 "The Claude login of claude-runner on %s ends in %.1f hours and could not be "
                 "refreshed.%s " HOW,
                 alert->host, hours > 0 ? hours : 0.0, tasks);
        return;
    }
    if (verdict == TROUBLE_END) {
        char time[CLOCK_TEXT_SIZE];
        words->event = "login_ends";
        words->title = "Claude login ends soon";
        words->priority = "high";
        snprintf(words->text, sizeof(words->text),
                 "The Claude login of claude-runner on %s ends at %s.%s " HOW, alert->host,
                 clock_format(facts->login.login_expires_ms, time), tasks);
        return;
    }
    words->event = "login_needed";
    words->title = "Claude login needed";
    words->priority = "urgent";
    snprintf(words->text, sizeof(words->text), "claude-runner on %s: %s.%s " HOW, alert->host,
             facts->login.state != LOGIN_OK ? login_state_sentence(facts->login.state)
                                            : "OAuth login needed: the API does not take it",
             tasks);
}

/* `facts` is NULL for a test. */
static void print_webhook(const char *host, const struct facts *facts, const struct words *words,
                          struct buf *out)
{
    struct json_writer w;
    char time[CLOCK_TEXT_SIZE];
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_add_text(&w, "event", words->event);
    json_add_text(&w, "title", words->title);
    json_add_text(&w, "text", words->text);
    json_add_text(&w, "service", "claude-runner");
    json_add_text(&w, "host", host);
    json_add_text(&w, "timestamp", clock_format(clock_real_ms(), time));
    if (!facts) {
        json_close(&w);
        return;
    }
    json_add_int(&w, "tasks_waiting", facts->waiting);
    AUTO(buf) struct buf oauth = BUF_INIT(4096);
    buf_addc(&oauth, '{');
    keeper_print(&facts->login, false, &oauth);
    buf_addc(&oauth, '}');
    json_add_raw(&w, "oauth", buf_str(&oauth), oauth.len);
    json_close(&w);
}

/* --- sending ------------------------------------------------------------------------------- */

static bool is_ntfy(const char *url)
{
    const char *host = strstr(url, "://");
    host = host ? host + 3 : url;
    size_t len = strcspn(host, "/?#");
    const char *mark = strrchr(url, '#');
    return memmem(host, len, "ntfy", 4) || (mark && strcmp(mark, "#ntfy") == 0);
}

static void print_message(const char *host, const struct facts *facts, const struct words *words,
                          bool ntfy, struct strlist *headers, struct buf *body)
{
    if (ntfy) {
        strlist_add(headers, "Content-Type: text/plain; charset=utf-8");
        strlist_addf(headers, "Title: %s", words->title);
        strlist_addf(headers, "Priority: %s", words->priority);
        strlist_add(headers, "Tags: key,warning");
        buf_adds(body, words->text);
    } else {
        strlist_add(headers, "Content-Type: application/json");
        print_webhook(host, facts, words, body);
    }
}

static void find_host(char *host, size_t size)
{
    host[size - 1] = '\0';
    if (gethostname(host, size - 1))
        snprintf(host, size, "this machine");
}

/* The URL for alerts: ALERT_URL, else the topic at ntfy.sh. False when there is neither. */
static bool find_url(const struct config *config, struct buf *out)
{
    if (config->alert_url)
        buf_adds(out, config->alert_url);
    else if (config->ntfy_topic) {
        buf_adds(out, "https://ntfy.sh/");
        str_add_url(out, config->ntfy_topic, "");
    }
    return out->len > 0 && buf_ok(out);
}

static int post(const char *url, const struct strlist *headers, const struct buf *body,
                struct err *err)
{
    AUTO(net_answer) struct net_answer answer = {0};
    if (headers->failed || buf_check(body, "the alert", err))
        return err_set(err, ERR_INTERNAL, "out of memory");
    const struct net_request request = {.method = "POST",
                                        .url = url,
                                        .headers = headers,
                                        .body = body->data,
                                        .body_len = body->len,
                                        .reach = NET_PLAIN,
                                        .connect_ms = CONNECT_MS,
                                        .total_ms = CALL_MS,
                                        .answer_max = 65536};
    if (net_call(&request, &answer, err))
        return -1;
    return answer.status / 100 == 2 ? 0
                                    : err_set(err, ERR_UPSTREAM, "it answered %d", answer.status);
}

static int tell(const struct alert *alert, const char *url, const struct facts *facts,
                enum verdict verdict, struct err *err)
{
    struct words words;
    AUTO(strlist) struct strlist headers = STRLIST_INIT;
    AUTO(buf) struct buf body = BUF_INIT(16384);
    find_words(alert, facts, verdict, &words);
    print_message(alert->host, facts, &words, is_ntfy(url), &headers, &body);
    return post(url, &headers, &body, err);
}

int alert_test(const struct config *config, struct err *err)
{
    char host[64];
    AUTO(strlist) struct strlist headers = STRLIST_INIT;
    AUTO(buf) struct buf body = BUF_INIT(16384);
    AUTO(buf_wipe) struct buf url = BUF_INIT(URL_MAX);
    struct words words = {
        .event = "test", .title = "A test of claude-runner", .priority = "default"};
    if (!find_url(config, &url))
        return err_set(err, ERR_CONFIG, "neither ALERT_URL nor NTFY_TOPIC is set: nobody is told");
    find_host(host, sizeof(host));
    snprintf(words.text, sizeof(words.text),
             "claude-runner on %s: this is how you are told that it needs you.", host);
    print_message(host, NULL, &words, is_ntfy(buf_str(&url)), &headers, &body);
    return post(buf_str(&url), &headers, &body, err);
}

static void note_delivery(struct alert *alert, enum verdict verdict)
{
    struct err err;
    char time[CLOCK_TEXT_SIZE];
    alert->told = true;
    alert->of = verdict;
    alert->sent_ms = clock_real_ms();
    log_info("alert", "the owner has been told that the login needs them");
    clock_format(clock_real_ms(), time);
    if (file_replace(alert->path, time, strlen(time), 0600, &err))
        log_warn("alert", "a restart would tell it again: %s", err.msg);
}

static void note_failure(struct alert *alert, const struct err *err)
{
    alert->tries++;
    alert->next_ms = clock_mono_ms() + alert->retry_ms;
    alert->retry_ms = alert->retry_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : alert->retry_ms * 2;
    log_warn("alert", "the alert could not be sent: %s%s", err->msg,
             alert->tries == TRIES_MAX ? "; giving up" : "");
}

/* --- one look ------------------------------------------------------------------------------ */

static void end_episode(struct alert *alert)
{
    if (alert->told && unlink(alert->path) == 0)
        log_info("alert", "the login works again");
    alert->told = false;
    alert->since_ms = 0;
}

static void begin_trouble(struct alert *alert, int64_t now)
{
    alert->since_ms = now;
    alert->tries = 0;
    alert->retry_ms = RETRY_MIN_MS;
    alert->next_ms = now;
}

void alert_look(struct alert *alert)
{
    struct facts facts;
    struct err err = ERR_INIT;
    AUTO(config_ref) const struct config *config = config_ref(alert->config.config);
    int64_t now = clock_mono_ms();
    gather(alert, config, &facts);
    enum verdict verdict = config->anthropic_api_key ? FINE : judge(&facts);
    if (verdict == FINE)
        end_episode(alert);
    if (alert->told && alert->of == TROUBLE_END && verdict == TROUBLE_LOGIN) {
        alert->told = false; /* The login has ended since, which is news. */
        alert->since_ms = 0;
    }
    AUTO(buf_wipe) struct buf url = BUF_INIT(URL_MAX);
    if (verdict < TROUBLE_SOON || alert->told || !find_url(config, &url))
        return;
    if (alert->since_ms == 0)
        begin_trouble(alert, now);
    bool sure = verdict >= TROUBLE_END || now - alert->since_ms >= SURE_MS;
    if (!sure || now < alert->next_ms || alert->tries == TRIES_MAX)
        return;
    if (tell(alert, buf_str(&url), &facts, verdict, &err))
        note_failure(alert, &err);
    else
        note_delivery(alert, verdict);
}

/* --- life ---------------------------------------------------------------------------------- */

static void *look_often(void *arg)
{
    struct alert *alert = arg;
    struct timespec until;
    lock_take(&alert->lock);
    while (!alert->stopping) {
        lock_drop(&alert->lock);
        alert_look(alert);
        lock_take(&alert->lock);
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += TICK_S;
        if (!alert->stopping)
            pthread_cond_timedwait(&alert->stop, &alert->lock.mutex, &until);
    }
    lock_drop(&alert->lock);
    return NULL;
}

struct alert *alert_new(const struct alert_config *config, struct err *err)
{
    pthread_condattr_t attr;
    struct alert *alert = calloc(1, sizeof(*alert));
    char *path = path_join(config->state_dir, FILE_NAME);
    if (!alert || !path) {
        err_sys(err, "alert");
        free(alert);
        free(path);
        return NULL;
    }
    alert->config = *config;
    alert->path = path;
    find_host(alert->host, sizeof(alert->host));
    lock_init(&alert->lock);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&alert->stop, &attr);
    pthread_condattr_destroy(&attr);
    struct stat st;
    if (stat(path, &st) == 0) {
        alert->told = true;
        alert->sent_ms = st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
    }
    return alert;
}

int64_t alert_last_ms(const struct alert *alert)
{
    return alert->sent_ms;
}

int alert_start(struct alert *alert, struct err *err)
{
    return thread_start(&alert->thread, "alert", THREAD_STACK_DEFAULT, look_often, alert, err);
}

void alert_free(struct alert *alert)
{
    if (!alert)
        return;
    lock_take(&alert->lock);
    alert->stopping = true;
    pthread_cond_broadcast(&alert->stop);
    lock_drop(&alert->lock);
    thread_join(&alert->thread);
    pthread_cond_destroy(&alert->stop);
    lock_done(&alert->lock);
    free(alert->path);
    free(alert);
}
