/*
 * The handlers behind the routes, and what they share. Private to runner/api.
 *
 * Threads: a handler runs on the HTTP worker that has its request; the shared functions may be
 * called from any thread. Ownership: a handler borrows the request and the api for the call.
 */
#ifndef API_HANDLERS_H
#define API_HANDLERS_H

#include "runner/api/api.h"
#include "json/json.h"

#define API_BODY_MAX (10u << 20)
#define API_RESULT_MAX (160u << 20) /* an answer of 64 MiB with every byte escaped */

enum route_flag {
    ROUTE_OPEN = 1,  /* needs no secret */
    ROUTE_DRAIN = 2, /* answers while the service drains */
    ROUTE_PAGE = 4,  /* for browsers: asks for the secret itself (login.c) */
    ROUTE_BARE = 8,  /* asks for no assertion of Cloudflare Access */
};

http_handler outputs_list, outputs_archive, output_get, task_transcript, task_diff;
http_handler repos_list, repos_remove;
http_handler health_get, healthz_get, root_get, metrics_get, openapi_get;
http_handler api_python_post, api_python_session_create, api_python_session_list,
    api_python_session_show;
http_handler api_python_session_exec, api_python_session_stop_run, api_python_session_begin_again;
http_handler api_python_session_delete;
http_handler execute_post, exec_post, run_post, run_async_post;
http_handler oauth_status, oauth_refresh;
http_handler oauth_login_begin, oauth_login_get, oauth_login_code, oauth_login_cancel;
http_handler tasks_list, tasks_status, task_get, task_result, task_events, task_cancel;
http_handler task_redeliver;
http_handler login_page, login_enter, login_leave, login_start, login_code, login_cancel;
http_handler login_state, login_css, login_js;
http_handler sessions_post, sessions_get, session_get, session_remove_it, session_exec_post;
http_handler session_terminal, session_snapshot, snapshots_get, snapshot_get, snapshot_remove_it;
http_handler processes_get, processes_delete, process_get, process_delete, process_logs;
http_handler process_stdin, shell_get, shell_wait, shell_stdin, shell_kill;
http_handler file_get, file_put, file_delete, files_get, files_search, files_find, files_replace;
http_handler archive_get, archive_put, input_get, input_upload;
http_handler callers_get, audit_get;
http_handler push_get, push_subscription_add, push_subscription_remove, push_test;
http_handler console_file, console_session_get, console_session_begin, console_session_end,
    console_link;

/* Answers 200 with a buffer of JSON, or 500 when the buffer failed. */
void send_json(struct http_request *req, int status, const struct buf *json);
void send_err(struct http_request *req, const struct err *err);

/* Adds the ETag. False after answering 304 or 412 because of If-Match or If-None-Match. */
bool meets_condition(struct http_request *req, const char *etag);

/* Reads the body of a request whose Content-Type, if any, is JSON or a default type of common
 * clients. */
int api_json_body(struct http_request *req, size_t max, struct buf *out, struct err *err);

/* Corrects `login`: "expired" means that there is no working credential, which is false while an
 * API key works. */
void note_api_key(const struct api *api, struct keeper_status *login);

/* instances.c: where this is the service at Google. */
/* store_get(), also of tasks that other instances took. */
int instances_find(struct api *api, const char *id, struct task_record *record, struct err *err);
/* All instances are to know that it is cancelled. Does nothing elsewhere. */
int instances_cancel(struct api *api, const char *id, struct err *err);
/* The rows of a group's tasks are made here, if other instances took them. Does nothing
 * elsewhere. */
int instances_find_group(struct api *api, const char *group, struct err *err);
/* Puts the tasks into the bucket, which gives the runs of a group their ids. 1: their key has given
 * ret_earlier before, which has room for as many. */
int instances_promise(struct api *api, const struct task_new *tasks, size_t count,
                      struct task_record *ret_earlier, struct err *err);
/* The record of a task that was promised, or those of a group, also when another thread made their
 * rows. */
int instances_taken(struct api *api, const struct task_new *tasks, size_t count,
                    struct task_record *ret_records, struct err *err);
/* Inputs, which are in the bucket there: of a request (calls lacks() for each that is missing),
 * found, and uploaded, as cloud_inputs.h has it. */
int instances_hold_inputs(struct api *api, const char *request,
                          void (*lacks)(const char *input, void *arg), void *arg, struct err *err);
int instances_find_input(struct api *api, const char *hash, int64_t *ret_size, struct err *err);
int instances_receive_input(struct api *api, struct http_request *req, const char *hash,
                            bool *ret_made, int64_t *ret_size, struct err *err);
/* The i-th field that is refused there: *ret_field is NULL when it was not given. False: no more.
 */
bool instances_field(const struct task_request *request, size_t i, const char **ret_field,
                     const char **ret_why);
/* True when that route needs a machine that lasts. */
bool instances_refuse_route(const struct api *api, const struct http_route *route, struct err *err);

/* The Idempotency-Key header, or NULL. Returns -1 when it is malformed. */
int idempotency_key(struct http_request *req, const char **ret_key, struct err *err);

/* Refuses unknown query parameters by name; `known` ends with NULL. Returns 0 or -1. */
int check_query(struct http_request *req, const char *const known[], struct err *err);

/* True when the request carries one of the secrets, or the cookie of a console session that began
 * with one (auth.c). */
bool is_authorized(const struct api *api, const struct http_request *req);
/* True when it is one of the configured secrets. */
bool is_secret(const struct api *api, const char *secret);
/* The name of a configured secret, "" for none. The caller frees it. */
char *secret_name(const struct api *api, const char *secret);
/* The secret of config with which the request's console session began. NULL when there is no
 * session, or when the request changes something and lacks the session's token (console.c). */
const struct config_secret *console_secret(const struct api *api, const struct config *config,
                                           const struct http_request *req);
/* The secret of config that the request carries or whose console session it uses; NULL for none. */
const struct config_secret *caller_secret(const struct api *api, const struct config *config,
                                          const struct http_request *req);
/* Answers with one of the console's files (web_find()). */
void console_send(struct http_request *req, const char *path);
/* Counts a wrong secret against the caller's address. Returns the seconds to wait when there were
 * too many, else 0. */
int note_wrong_secret(struct api *api, const struct http_request *req);
/* The name of the secret that an accepted request carried, or "". The caller frees it; NULL when
 * memory ran out. */
char *caller_name(const struct api *api, const struct http_request *req);

/* The client's address: Cloudflare's header where the peer is trusted, else the peer's address. */
const char *caller_address(const struct api *api, const struct http_request *req);

/* audit_log.c. Records a request that changed something: one that is being answered, or (status 0)
 * one whose client left after it was accepted. */
void record_request(struct api *api, const struct http_request *req, int status);
/* Records an action of `caller` (NULL: the request's) on `target`. */
void record_action(struct api *api, const struct http_request *req, const char *action,
                   const char *caller, const char *target, const char *detail);
/* Records a wrong secret; of a flood of them only some. */
void record_refusal(struct api *api, const char *address);
/* The part of a body that a request asks for. */
struct range {
    int status; /* 200 or 206 */
    int64_t from, len;
    int64_t size; /* of the whole body */
};
/* Decides by Range, If-Range and the conditions. False when the answer has been sent and no body is
 * wanted. */
bool range_plan(struct http_request *req, int64_t size, const char *etag, struct range *ret_range);
/* http_begin_sized() with the headers of a range. */
int range_begin(struct http_request *req, const struct range *range, const char *type);

/* Sends a regular file, or the range that is asked for. */
struct stat;
void send_range(struct http_request *req, int fd, const struct stat *st, const char *etag,
                const char *type);

/* The directory of a task's events and outputs. The caller frees the text; NULL when memory ran
 * out. */
char *outputs_keep_dir(const struct api *api, const char *id);
/* Opens the directory of a task's outputs; -1 when there are none. The caller closes it. */
int outputs_open(const struct api *api, const char *id);
/* Opens a file that a task wrote, without following links or leaving `dir`. */
int outputs_open_below(int dir, const char *path, int flags);
/* Answers for an output of a task that ran in the cloud. False, without an answer, when it has no
 * such output. */
bool outputs_cloud_get(struct http_request *req, const struct api *api,
                       const struct task_record *record, const char *path);

/* Streams a process's log as it grows. */
void follow_process(struct http_request *req, struct api *api, const char *id, pid_t pid,
                    int64_t from);

/* Reads the task that the path names. False after the answer has been sent. */
bool find_task(struct http_request *req, struct api *api, struct task_record *record);

/* Appends a task as callers see it. `whole` adds the request; `webhook` (or NULL) is its
 * delivery. */
void print_task(const struct api *api, const struct task_record *record, bool whole,
                const struct webhook_record *webhook, struct json_writer *w);

#endif
