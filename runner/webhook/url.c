/* URLs of webhooks, as requests name them and as callers see them. */
#include "base/form.h"
#include "base/str.h"
#include "net/address.h"
#include "runner/webhook/allow.h"
#include "runner/webhook/webhook.h"

#include <stdio.h>
#include <string.h>

static bool is_local_name(const char *host)
{
    size_t len = strlen(host), tail = strlen(".localhost");
    return strcmp(host, "localhost") == 0 ||
           (len > tail && strcmp(host + len - tail, ".localhost") == 0);
}

int webhook_check_url(const char *text, const struct config *config, struct err *err)
{
    if (!config->callback_secret)
        return err_set(err, ERR_INVALID,
                       "needs CALLBACK_SECRET to be set on the runner: webhooks are signed");
    return webhook_check_place(text, config, err);
}

int webhook_check_place(const char *text, const struct config *config, struct err *err)
{
    struct form_url url;
    struct sockaddr_storage address;
    const struct strlist *allow = &config->callback_allow;
    if (form_url(text, &url) || url.has_user)
        return err_set(err, ERR_INVALID, "must be an https URL without user and password");
    if (allow_names(allow, url.host, url.port))
        return 0;
    /* A name may have an allowed address, which is checked when it is connected to. */
    bool literal = allow_read_address(url.host, &address);
    bool allowed =
        literal ? allow_has(allow, (const struct sockaddr *)&address) : allow_has_any(allow);
    if (allowed)
        return 0;
    if (literal ? !address_is_public((const struct sockaddr *)&address) : is_local_name(url.host))
        return err_set(err, ERR_INVALID, "must be public: CALLBACK_ALLOW does not name '%.100s'",
                       url.host);
    if (!url.tls)
        return err_set(err, ERR_INVALID,
                       "must be an https URL: http goes only to what CALLBACK_ALLOW names");
    return 0;
}

void webhook_host(const char *text, char host[WEBHOOK_HOST_SIZE])
{
    struct form_url url;
    host[0] = '\0';
    if (form_url(text, &url) == 0)
        snprintf(host, WEBHOOK_HOST_SIZE, strchr(url.host, ':') ? "[%s]:%d" : "%s:%d", url.host,
                 url.port);
}

void webhook_print(const struct webhook_record *record, struct json_writer *w)
{
    json_open_object(w, "webhook");
    json_add_text(w, "id", record->id);
    if (record->url)
        json_add_textn(w, "url", record->url, strcspn(record->url, "?#"));
    else
        json_add_null(w, "url");
    json_add_text(w, "state", webhook_state_name(record->state));
    json_add_int(w, "attempts", record->attempts);
    if (record->last_status)
        json_add_int(w, "lastStatus", record->last_status);
    else
        json_add_null(w, "lastStatus");
    json_add_text(w, "lastError", record->last_error[0] ? record->last_error : NULL);
    json_add_time(w, "nextAttemptAt", record->state == WEBHOOK_PENDING ? record->next_ms : 0);
    json_add_time(w, "deliveredAt", record->delivered_ms);
    json_close(w);
}
