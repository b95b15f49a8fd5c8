#include "streams_scene.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- proxies ---- */

/* A proxy that holds events back never brings the first one: the task ends after it has come. */
static void through(const char *base)
{
    char *file = textf("%s/came%s", shared()->shared, strrchr(base, ':') + 1);
    char *prompt = textf("standin: wait %s", file), headers[80];
    struct stream *stream = run(base, prompt, "");
    char *id = task_of(stream);
    stream_until(stream, "\"waiting\"", 20000);
    while (!strstr(strstr(stream->body, "\"waiting\""), "\n\n")) /* the event is not whole yet */
        assert_true(stream_until_size(stream, stream->body_size + 1, 20000));
    drop_heartbeats(stream->body);
    long last;
    whole_part(stream->body, strlen(stream->body), &last);
    snprintf(headers, sizeof headers, "Last-Event-ID: %ld\r\n", last);
    struct stream *second = follow(base, id, headers);
    assert_true(stream_until_size(second, 1, 20000));
    write_file(file, "", 0644);
    int64_t end = now_ms() + 30000 * slowness();
    while (!strstr(second->body, "\nevent: done\n") && now_ms() < end)
        stream_read(second, 100);
    assert_int_equal(stream_count(second, "\nevent: done\n"), 1);
    assert_int_equal(stream_count(second, "\"waiting\""), 0);
    assert_true(stream_count(second, "\"waited\"") > 0);
    stream_free(second);
    stream_free(stream);
    free(prompt);
    free(file);
    /* when the client leaves the proxy, the proxy closes its connection to the runner */
    stream = run(base, "standin: hang-middle", "");
    free(id);
    id = task_of(stream);
    stream_free(stream);
    runner_await(runner, id, "cancelled", 20000);
    free(id);
}

static void with_proxy(const char *program, char *const argv[], const char *base, const char *log)
{
    pid_t pid =
        proc_start(argv, (char *[]){(char[]){"PATH=/usr/sbin:/usr/bin:/bin"}, NULL}, log, log);
    int status = 0, fd = -1;
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)strtol(strrchr(base, ':') + 1, NULL, 10)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int64_t end = now_ms() + 20000 * slowness(); now_ms() < end && proc_alive(pid);
         poll_pause()) {
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
            break;
        close(fd);
        fd = -1;
    }
    if (fd < 0) {
        char *said = read_file(log, NULL);
        fail_msg("%s does not listen: %s", program, said);
    }
    close(fd);
    through(base);
    kill(pid, SIGTERM);
    if (!proc_wait(pid, 10000, &status))
        kill(pid, SIGKILL);
}

static void streams_pass_through_nginx(void **state)
{
    (void)state;
    if (access("/usr/sbin/nginx", X_OK))
        SKIP_BECAUSE("nginx is not installed");
    char *dir = tmp_dir_new(), *log = textf("%s/log", dir), *file = textf("%s/conf", dir);
    int port = port_reserve();
    char *base = textf("http://127.0.0.1:%d", port);
    char *conf = textf("daemon off; pid %s/pid; error_log %s/log; worker_processes 1;\n"
                       "events { worker_connections 64; }\n"
                       "http { access_log off; client_body_temp_path %s; proxy_temp_path %s;\n"
                       "fastcgi_temp_path %s; uwsgi_temp_path %s; scgi_temp_path %s;\n"
                       "gzip on; gzip_types *; gzip_proxied any;\n"
                       "server { listen 127.0.0.1:%d; location / { proxy_pass %s; } } }\n",
                       dir, dir, dir, dir, dir, dir, dir, port, shared()->base);
    write_file(file, conf, 0644);
    char *const argv[] = {
        (char[]){"/usr/sbin/nginx"}, (char[]){"-e"}, log, (char[]){"-c"}, file, NULL};
    with_proxy("nginx", argv, base, log);
    free(conf);
    free(base);
    free(file);
    free(log);
    tmp_dir_free(dir);
}

static void streams_pass_through_haproxy(void **state)
{
    (void)state;
    if (access("/usr/sbin/haproxy", X_OK))
        SKIP_BECAUSE("haproxy is not installed");
    char *dir = tmp_dir_new(), *log = textf("%s/log", dir), *file = textf("%s/conf", dir);
    int port = port_reserve();
    char *base = textf("http://127.0.0.1:%d", port);
    char *conf = textf("defaults\n mode http\n timeout connect 10s\n timeout client 10s\n"
                       " timeout server 10s\n"
                       "frontend in\n bind 127.0.0.1:%d\n default_backend out\n"
                       "backend out\n server one %s\n",
                       port, shared()->base + strlen("http://"));
    write_file(file, conf, 0644);
    char *const argv[] = {(char[]){"/usr/sbin/haproxy"}, (char[]){"-db"}, (char[]){"-f"}, file,
                          NULL};
    with_proxy("haproxy", argv, base, log);
    free(conf);
    free(base);
    free(file);
    free(log);
    tmp_dir_free(dir);
}

/* ---- the system prompt ---- */

/* The system prompt with which the task was started. */
static void assert_system_prompt(const struct runner *own, const char *more, const char *expected)
{
    struct reply *reply = runner_execute(own, "standin: env", more);
    assert_status(reply, 200);
    char *argument = textf("--system-prompt=%s\\\"", expected);
    if (!strstr(reply->body, argument))
        fail_msg("no '%s' in %.1500s", argument, reply->body);
    free(argument);
    reply_free(reply);
}

static void the_system_prompt_follows_its_file(void **state)
{
    (void)state;
    struct runner *own = runner_new();
    char *path = textf("%s/prompt.md", own->dir), *next = textf("%s/next", own->dir);
    runner_set(own, "SYSTEM_PROMPT_FILE", path);
    runner_start(own);
    struct reply *reply = runner_execute(own, "standin: env", "");
    assert_problem(reply, 500, "configuration");
    reply_free(reply);
    assert_system_prompt(own, "\"systemPrompt\":\"mine\"", "mine");
    write_file(path, "be brief", 0644);
    assert_system_prompt(own, "", "be brief");
    write_file(next, "be kind", 0644);
    assert_int_equal(rename(next, path), 0);
    assert_system_prompt(own, "", "be kind");
    char *big = malloc(102402);
    memset(big, 'x', 102401);
    big[102401] = '\0';
    write_file(path, big, 0644);
    assert_system_prompt(own, "", "be kind");
    assert_int_equal(unlink(path), 0);
    assert_system_prompt(own, "", "be kind");
    char *log = runner_log(own);
    assert_int_equal(text_count(log, "the last good text stays in force"), 2);
    write_file(path, "be back", 0644);
    assert_system_prompt(own, "", "be back");
    free(log);
    free(big);
    free(next);
    free(path);
    runner_free(own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_pass_through_nginx),
        cmocka_unit_test(streams_pass_through_haproxy),
        cmocka_unit_test(the_system_prompt_follows_its_file),
    };
    return cmocka_run_group_tests(tests, NULL, shared_stop);
}
