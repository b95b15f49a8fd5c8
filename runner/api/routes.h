/*
 * The routes: who serves a path, who may ask, and what the OpenAPI document says of it.
 *
 * One row each, so that none goes without a description. Columns: method, path, handler, flags
 * (handlers.h), tag, summary, parameters, body, answers.
 *   parameters  names from openapi.c's table, separated by spaces; the path's own need no mention
 *   body        name of a schema, or ""
 *   answers     "200:Task 404": a status with the schema, or kind of content (openapi.c), that
 * comes with it; without one it is a Problem. What any route may answer (403, 429, 400 with a body
 * or parameters, 503 while draining) needs no mention.
 *
 * Private to runner/api.
 *
 * Threads: constants.
 */
#ifndef API_ROUTES_H
#define API_ROUTES_H

#include "runner/api/handlers.h"

/* clang-format off */
#define API_ROUTES(X) \
    X("GET", "/healthz", healthz_get, ROUTE_OPEN | ROUTE_DRAIN | ROUTE_BARE, "service", \
      "Whether the process serves", "", "", "200:Text") \
    X("GET", "/health", health_get, ROUTE_OPEN | ROUTE_DRAIN, "service", \
      "How the runner is", "verbose", "", "200:Health") \
    X("GET", "/metrics", metrics_get, ROUTE_DRAIN, "service", \
      "Numbers for Prometheus", "", "", "200:Metrics") \
    X("GET", "/openapi.json", openapi_get, ROUTE_OPEN | ROUTE_DRAIN, "service", \
      "The contract, as an OpenAPI document", "If-Match If-None-Match", "", \
      "200:OpenApi 304:Nothing 412") \
    X("GET", "/", root_get, ROUTE_OPEN | ROUTE_DRAIN, "service", \
      "The console for a browser (Accept: text/html), else what the service can do", "", "", \
      "200:Capabilities 304:Nothing 412") \
    X("GET", "/console/session", console_session_get, ROUTE_OPEN | ROUTE_DRAIN, "pages", \
      "Who is signed in at the console", "", "", "200:Object") \
    X("POST", "/console/session", console_session_begin, ROUTE_PAGE | ROUTE_DRAIN, "pages", \
      "Sign in: a secret for a cookie", "", "ConsoleSignIn", "201:Object 415 429") \
    X("DELETE", "/console/session", console_session_end, ROUTE_OPEN | ROUTE_DRAIN, "pages", \
      "Sign out", "", "", "200:Object") \
    X("POST", "/console/links", console_link, ROUTE_DRAIN, "pages", \
      "Make a link that signs a browser in, once, within five minutes", "", "", \
      "201:ConsoleLink") \
    X("GET", "/console/{path...}", console_file, ROUTE_OPEN | ROUTE_DRAIN, "pages", \
      "A file of the console", "If-Match If-None-Match", "", \
      "200:Asset 304:Nothing 404 412") \
    X("POST", "/execute", execute_post, 0, "run", \
      "Run Claude and wait for the result", "Idempotency-Key Prefer", "ExecuteRequest", \
      "200:ExecuteAnswer 202:AcceptedAnswer 401 409 507") \
    X("GET", "/oauth/status", oauth_status, ROUTE_DRAIN, "login", \
      "State of the login", "", "", "200:OAuthStatus") \
    X("POST", "/oauth/refresh", oauth_refresh, 0, "login", \
      "Refresh the login now", "", "", "200:OAuthStatus 401 404 502 504") \
    X("POST", "/oauth/login", oauth_login_begin, 0, "login", \
      "Begin a login, or find the one that is under way", "", "", "201:Login 502") \
    X("GET", "/oauth/login/{id}", oauth_login_get, ROUTE_DRAIN, "login", \
      "State of a login that is under way", "", "", "200:Login 404") \
    X("POST", "/oauth/login/{id}", oauth_login_code, 0, "login", \
      "Give a login the code that its page shows", "", "LoginCode", "200:Login 404 409") \
    X("DELETE", "/oauth/login/{id}", oauth_login_cancel, ROUTE_DRAIN, "login", \
      "Give a login up", "", "", "200:Login 404") \
    X("GET", "/login", login_page, ROUTE_PAGE | ROUTE_DRAIN, "pages", \
      "The login as a page", "", "", "200:Page") \
    X("GET", "/login/state", login_state, ROUTE_PAGE | ROUTE_DRAIN, "pages", \
      "What the page's script asks", "", "", "200:Object") \
    X("GET", "/login/page.css", login_css, ROUTE_PAGE | ROUTE_DRAIN, "pages", \
      "The page's style", "", "", "200:Css") \
    X("GET", "/login/page.js", login_js, ROUTE_PAGE | ROUTE_DRAIN, "pages", \
      "The page's script", "", "", "200:Script") \
    X("POST", "/login/enter", login_enter, ROUTE_PAGE | ROUTE_DRAIN, "pages", \
      "Give a secret, get a cookie", "", "Form", "200:Page 303:Nothing") \
    X("POST", "/login/leave", login_leave, ROUTE_PAGE | ROUTE_DRAIN, "pages", \
      "Give the cookie back", "", "Form", "303:Nothing") \
    X("POST", "/login/start", login_start, ROUTE_PAGE, "pages", \
      "Begin a login", "", "Form", "303:Nothing") \
    X("POST", "/login/code", login_code, ROUTE_PAGE, "pages", \
      "Give the code", "", "Form", "200:Page 303:Nothing") \
    X("POST", "/login/cancel", login_cancel, ROUTE_PAGE | ROUTE_DRAIN, "pages", \
      "Give the login up", "", "Form", "303:Nothing") \
    X("POST", "/run", run_post, 0, "run", \
      "Run Claude and follow its events; or Python code", "Idempotency-Key", "RunRequest", \
      "200:RunAnswer 422:PyRunnerRefusal 401 406 409 507") \
    X("POST", "/python", api_python_post, 0, "python", \
      "Run Python code", "Idempotency-Key", "PythonRequest", "200:PythonResult 409") \
    X("POST", "/python/sessions", api_python_session_create, 0, "python", \
      "Open a session: a namespace that lives between runs", "", "PythonSessionRequest", \
      "201:PythonSession") \
    X("GET", "/python/sessions", api_python_session_list, ROUTE_DRAIN, "python", \
      "The caller's sessions", "", "", "200:PythonSessionList") \
    X("GET", "/python/sessions/{id}", api_python_session_show, ROUTE_DRAIN, "python", \
      "One session", "", "", "200:PythonSession 404") \
    X("DELETE", "/python/sessions/{id}", api_python_session_delete, ROUTE_DRAIN, "python", \
      "End a session", "", "", "204:Nothing 404") \
    X("POST", "/python/sessions/{id}/exec", api_python_session_exec, 0, "python", \
      "Run code in a session", "Idempotency-Key", "PythonSessionCode", "200:PythonResult 404 409") \
    X("POST", "/python/sessions/{id}/interrupt", api_python_session_stop_run, ROUTE_DRAIN, "python", \
      "Interrupt what runs in a session", "", "", "200:PythonSession 404") \
    X("POST", "/python/sessions/{id}/restart", api_python_session_begin_again, ROUTE_DRAIN, "python", \
      "Empty a session's namespace", "", "", "200:PythonSession 404") \
    X("POST", "/run-async", run_async_post, 0, "run", \
      "Run Claude, and do not wait", "Idempotency-Key", "RunAsyncRequest", \
      "202:AcceptedAnswer 409 507") \
    X("POST", "/exec", exec_post, 0, "run", \
      "Run a shell command and wait for what it prints", "Idempotency-Key Prefer", "ExecRequest", \
      "200:ExecAnswer 202:AcceptedAnswer 406 409 507") \
    X("GET", "/tasks", tasks_list, ROUTE_DRAIN, "tasks", \
      "Tasks, the newest first", "status kind group webhook limit cursor", "", "200:TaskList") \
    X("GET", "/tasks/status", tasks_status, ROUTE_DRAIN, "tasks", \
      "How many tasks there are, and what runs", "", "", "200:TaskCounts") \
    X("GET", "/tasks/{id}", task_get, ROUTE_DRAIN, "tasks", \
      "One task", "", "", "200:Task 404") \
    X("DELETE", "/tasks/{id}", task_cancel, ROUTE_DRAIN, "tasks", \
      "Cancel a task, or all of a group", "", "", "200:Cancelled 404 409") \
    X("GET", "/tasks/{id}/result", task_result, ROUTE_DRAIN, "tasks", \
      "What /execute would have answered", "", "", "200:TaskResult 202:Pending 404") \
    X("GET", "/tasks/{id}/events", task_events, ROUTE_DRAIN, "tasks", \
      "A task's events, from any one to the last", "from Last-Event-ID", "", \
      "200:Events 204:Nothing 404 406 416") \
    X("GET", "/tasks/{id}/transcript", task_transcript, ROUTE_DRAIN, "tasks", \
      "A task's conversation as the CLI keeps it", "Range If-Range", "", \
      "200:Lines 206:Lines 404 416") \
    X("GET", "/tasks/{id}/diff", task_diff, ROUTE_DRAIN, "tasks", \
      "What a task changed in its repository: a patch, or file by file (Accept: application/json)", \
      "Range If-Range", "", "200:Diff 206:Diff 404 416") \
    X("POST", "/tasks/{id}/cancel", task_cancel, ROUTE_DRAIN, "tasks", \
      "Cancel a task, or all of a group", "", "", "200:Cancelled 404 409") \
    X("POST", "/tasks/{id}/redeliver", task_redeliver, 0, "tasks", \
      "Send a task's webhook again", "", "", "202:Webhook 404 409") \
    X("GET", "/tasks/{id}/outputs", outputs_list, ROUTE_DRAIN, "tasks", \
      "The files that a task has left", "", "", "200:Outputs 404") \
    X("GET", "/tasks/{id}/outputs.tgz", outputs_archive, ROUTE_DRAIN, "tasks", \
      "All of them", "", "", "200:Archive 404") \
    X("GET", "/tasks/{id}/outputs/{path...}", output_get, ROUTE_DRAIN | HTTP_ANY_BYTES, "tasks", \
      "One of them", "Range If-Range If-Match If-None-Match", "", \
      "200:File 206:File 304:Nothing 404 412 416") \
    X("GET", "/repos", repos_list, ROUTE_DRAIN, "repos", \
      "Cached repositories", "", "", "200:Repos") \
    X("DELETE", "/repos", repos_remove, ROUTE_DRAIN, "repos", \
      "Remove all that no task works on", "", "", "200:Removed 409") \
    X("DELETE", "/repos/{id}", repos_remove, ROUTE_DRAIN, "repos", \
      "Remove one", "", "", "200:Removed 404 409") \
    X("GET", "/callers", callers_get, ROUTE_DRAIN, "service", \
      "Whose secrets there are, and when they were last used", "", "", "200:Callers") \
    X("GET", "/audit", audit_get, ROUTE_DRAIN, "service", \
      "Who signed in, ran or changed what, the newest first", "action caller limit cursor", "", \
      "200:Audit") \
    X("GET", "/push", push_get, ROUTE_DRAIN, "push", \
      "The key for Web Push, and the browsers that are told", "", "", "200:Push") \
    X("POST", "/push/subscriptions", push_subscription_add, 0, "push", \
      "Tell a browser what needs the owner and what is done", "", "PushSubscription", \
      "201:PushSubscribed 409") \
    X("DELETE", "/push/subscriptions/{id}", push_subscription_remove, ROUTE_DRAIN, "push", \
      "Tell it no more", "", "", "200:Object") \
    X("POST", "/push/test", push_test, 0, "push", \
      "Send a message to try it", "", "PushTest", "202:Object 404") \
    X("POST", "/sessions", sessions_post, 0, "sessions", \
      "Make a session", "", "SessionRequest", "201:Session 409 429 507") \
    X("GET", "/sessions", sessions_get, ROUTE_DRAIN, "sessions", \
      "The sessions there are", "", "", "200:Object") \
    X("GET", "/sessions/{id}", session_get, ROUTE_DRAIN, "sessions", \
      "One session", "", "", "200:Session 404") \
    X("DELETE", "/sessions/{id}", session_remove_it, ROUTE_DRAIN, "sessions", \
      "Remove a session with all it holds", "", "", "200:Object") \
    X("POST", "/sessions/{id}/exec", session_exec_post, 0, "sessions", \
      "Run a command in one of its shells", "", "SessionExecRequest", \
      "200:SessionExec 404 409 507") \
    X("GET", "/sessions/{id}/processes", processes_get, ROUTE_DRAIN, "sessions", \
      "Its background processes", "shell", "", "200:Object 404") \
    X("DELETE", "/sessions/{id}/processes", processes_delete, ROUTE_DRAIN, "sessions", \
      "End those whose command holds a text", "pattern shell signal", "", "200:Object 404") \
    X("GET", "/sessions/{id}/processes/{pid}", process_get, ROUTE_DRAIN, "sessions", \
      "One of them, when it has ended or the wait is over", "wait", "", "200:SessionProcess 404") \
    X("DELETE", "/sessions/{id}/processes/{pid}", process_delete, ROUTE_DRAIN, "sessions", \
      "End it, or send it a signal", "signal", "", "200:Object 404 504") \
    X("GET", "/sessions/{id}/processes/{pid}/logs", process_logs, ROUTE_DRAIN, "sessions", \
      "What it has written", "from Last-Event-ID", "", "200:Log 404 416") \
    X("POST", "/sessions/{id}/processes/{pid}/stdin", process_stdin, 0, "sessions", \
      "Write to it", "", "SessionInput", "200:Object 404 409") \
    X("GET", "/sessions/{id}/shell", shell_get, ROUTE_DRAIN, "sessions", \
      "The shell that `shell` names (default), as below", "shell console", "", "200:Object 404") \
    X("GET", "/sessions/{id}/shells/{name}", shell_get, ROUTE_DRAIN, "sessions", \
      "A shell and what its last command printed", "console", "", "200:Object 404") \
    X("POST", "/sessions/{id}/shells/{name}/wait", shell_wait, 0, "sessions", \
      "Wait for its current process", "", "SessionWait", "200:Object 404") \
    X("POST", "/sessions/{id}/shells/{name}/stdin", shell_stdin, 0, "sessions", \
      "Write to its current process", "", "SessionInput", "200:Object 404 409") \
    X("POST", "/sessions/{id}/shells/{name}/kill", shell_kill, ROUTE_DRAIN, "sessions", \
      "End its current process", "", "", "200:Object 404") \
    X("GET", "/sessions/{id}/terminal", session_terminal, 0, "sessions", \
      "A terminal in it, as a WebSocket", "shell cols rows", "", "101:Nothing 400 404 426 429") \
    X("POST", "/sessions/{id}/snapshot", session_snapshot, 0, "sessions", \
      "Keep what it is, for others to begin as (from)", "", "SnapshotRequest", \
      "201:Snapshot 404 409 429 507") \
    X("GET", "/snapshots", snapshots_get, ROUTE_DRAIN, "sessions", \
      "The snapshots there are", "", "", "200:Object") \
    X("GET", "/snapshots/{id}", snapshot_get, ROUTE_DRAIN, "sessions", \
      "One snapshot", "", "", "200:Snapshot 404") \
    X("DELETE", "/snapshots/{id}", snapshot_remove_it, ROUTE_DRAIN, "sessions", \
      "Remove a snapshot", "", "", "200:Object 409") \
    X("GET", "/sessions/{id}/files", files_get, ROUTE_DRAIN, "sessions", \
      "What a directory holds", "path recursive limit cursor", "", "200:Object 403 404") \
    X("GET", "/sessions/{id}/files/{path...}", file_get, ROUTE_DRAIN | HTTP_FILE_PATH, "sessions", \
      "A file", "startLine endLine maxLength Range If-Range If-Match If-None-Match", "", \
      "200:File 206:File 304:Nothing 403 404 409 412 416") \
    X("PUT", "/sessions/{id}/files/{path...}", file_put, HTTP_FILE_PATH, "sessions", \
      "Write a file, or append to it", "append mode If-Match If-None-Match", "", \
      "200:Object 201:Object 403 404 409 412 507") \
    X("DELETE", "/sessions/{id}/files/{path...}", file_delete, ROUTE_DRAIN | HTTP_FILE_PATH, "sessions", \
      "Delete a file or a directory", "If-Match", "", "200:Object 403 404 412") \
    X("POST", "/sessions/{id}/files/search", files_search, ROUTE_DRAIN, "sessions", \
      "Lines that match a regular expression", "", "SessionSearch", "200:Object 404 504") \
    X("POST", "/sessions/{id}/files/find", files_find, ROUTE_DRAIN, "sessions", \
      "Names that match a pattern", "", "SessionFind", "200:Object 404") \
    X("POST", "/sessions/{id}/files/replace", files_replace, 0, "sessions", \
      "Replace a text in a file", "", "SessionReplace", "200:Object 403 404 409") \
    X("GET", "/sessions/{id}/archive", archive_get, ROUTE_DRAIN, "sessions", \
      "A directory as an archive", "path", "", "200:Archive 404 409") \
    X("PUT", "/sessions/{id}/archive", archive_put, 0, "sessions", \
      "Unpack an archive into a directory", "path", "", "200:Object 403 404 422 507") \
    X("GET", "/inputs/{sha256}", input_get, ROUTE_DRAIN, "inputs", \
      "Whether an input is there", "", "", "200:Input 400 404") \
    X("PUT", "/inputs/{sha256}", input_upload, 0, "inputs", \
      "Upload an archive to work on, once", "", "", "200:Input 201:Input 400 413 422 507") \
    X("POST", "/cancel/{id}", task_cancel, ROUTE_DRAIN, "tasks", \
      "Cancel a task, or all of a group", "", "", "200:Cancelled 404 409")
/* clang-format on */

/* The texts of a row. */
struct route_text {
    const char *tag, *summary, *parameters, *body, *answers;
};

/* In the order of api_routes(). */
extern const struct route_text api_route_texts[];

#endif
