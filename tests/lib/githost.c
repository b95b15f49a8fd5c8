#include "githost.h"

#include "testing.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct githost host;

const char githost_cli[] =
    "#!/bin/bash\n"
    "script=$(cat)\n"
    "printf '{\"type\":\"system\",\"subtype\":\"init\",\"session_id\":\"x\"}\\n'\n"
    "out=$(bash -c \"$script\" 2>&1 </dev/null); code=$?\n"
    "out=$(printf '%s' \"$out\" | sed -e 's/\\\\/\\\\\\\\/g' -e 's/\"/\\\\\"/g' -e 's/\\t/ /g' |"
    " sed ':a;N;$!ba;s/\\n/\\\\n/g')\n"
    "[ $code = 0 ] && sub=success bad=false || sub=error_during_execution bad=true\n"
    "printf '{\"type\":\"result\",\"subtype\":\"%s\",\"is_error\":%s,\"num_turns\":1,"
    "\"result\":\"%s\",\"session_id\":\"x\",\"total_cost_usd\":0,\"usage\":{}}\\n'"
    " $sub $bad \"$out\"\n";

/* ---- shell ---- */

char *sh(const char *format, ...)
{
    char text[8192];
    int status;
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    char *whole = textf("cd '%s' && set -e && %s", host.dir, text);
    char *out = textf("%s/sh.out", host.dir);
    unlink(out);
    char *argv[] = {(char[]){"/bin/bash"}, (char[]){"-c"}, whole, NULL};
    char *env[] = {(char[]){"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin"},
                   (char[]){"HOME=/nonexistent"},
                   (char[]){"GIT_AUTHOR_NAME=A"},
                   (char[]){"GIT_AUTHOR_EMAIL=a@b"},
                   (char[]){"GIT_COMMITTER_NAME=A"},
                   (char[]){"GIT_COMMITTER_EMAIL=a@b"},
                   NULL};
    pid_t pid = proc_start(argv, env, out, out);
    bool ended = proc_wait(pid, 240000, &status);
    char *said = read_file(out, NULL);
    if (!ended || status != 0)
        fail_msg("%s: %s", whole, said ? said : "");
    free(whole);
    free(out);
    return said ? said : strdup("");
}

bool says(char *said, const char *what)
{
    bool yes = strstr(said, what) != NULL;
    if (!yes)
        print_error("no '%s' in: %s\n", what, said);
    free(said);
    return yes;
}

char *filled(const char *text, const char *shared)
{
    char *out = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&out, &size);
    for (; *text; text++) {
        if (text[0] == '@' && text[1] == 'D')
            fputs(host.dir, file), text++;
        else if (text[0] == '@' && text[1] == 'P')
            fprintf(file, "%d", host.web_port), text++;
        else if (text[0] == '@' && text[1] == 'S')
            fputs(shared, file), text++;
        else
            fputc(*text, file);
    }
    fclose(file);
    return out;
}

/* ---- servers ---- */

static pid_t serve(char *const argv[])
{
    char *env[] = {(char[]){"PATH=/usr/bin:/bin:/usr/sbin"}, NULL};
    char *log = textf("%s/serve.log", host.dir);
    pid_t pid = proc_start(argv, env, log, log);
    free(log);
    return pid;
}

bool githost_is_listening(int port)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is = fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof at) == 0;
    close(fd);
    return is;
}

/* Whether fcgiwrap takes connections; nginx answers 502 before. */
static bool is_fcgi_listening(void)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(at.sun_path, sizeof at.sun_path, "%s/fcgi", host.dir);
    bool is = fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof at) == 0;
    close(fd);
    return is;
}

static void start_sshd(void)
{
    free(sh("mkdir -p /run/sshd; for t in ed25519 ecdsa rsa; do ssh-keygen -q -t $t -N '' -f k_$t;"
            " done; ssh-keygen -q -t rsa -m PEM -N '' -f k_pem; ssh-keygen -q -t ecdsa -m PEM"
            " -N '' -f k_ecdsa_pem; ssh-keygen -q -t rsa -m PKCS8 -N '' -f k_pkcs8; ssh-keygen -q"
            " -t ed25519 -N '' -f hostkey; ssh-keygen -q -t ed25519 -N secret -f k_locked;"
            " ssh-keygen -q -t rsa -m PEM -N secret -f k_locked_pem; ssh-keygen -q -t rsa -m PKCS8"
            " -N secret -f k_locked_pkcs8; cat k_*.pub >auth;"
            " printf 'Port %d\\nListenAddress 127.0.0.1\\nHostKey %s/hostkey\\n"
            "AuthorizedKeysFile %s/auth\\nStrictModes no\\nUsePAM no\\n"
            "PasswordAuthentication no\\nPidFile none\\nMaxStartups 500\\n' >sshd.conf",
            host.ssh_port, host.dir, host.dir));
    char *conf = textf("%s/sshd.conf", host.dir);
    char *argv[] = {
        (char[]){"/usr/sbin/sshd"}, (char[]){"-D"}, (char[]){"-e"}, (char[]){"-f"}, conf, NULL};
    host.sshd = serve(argv);
    free(conf);
}

static void start_web(void)
{
    free(sh("openssl req -x509 -newkey rsa:2048 -nodes -keyout tls.key -out tls.crt -days 30"
            " -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null;"
            " printf 'x-access-token:%%s\\n' \"$(openssl passwd -apr1 " TOKEN ")\" >htpasswd;"
            " chmod 644 htpasswd"));
    char *conf = filled(
        "daemon off; pid @D/nginx.pid; error_log @D/err.log; user root; events {}\n"
        "http { log_format brief '$request $status'; access_log @D/access.log brief; "
        "client_max_body_size 1g; client_body_temp_path @D/t1;"
        " fastcgi_temp_path @D/t2; proxy_temp_path @D/t3; uwsgi_temp_path @D/t4;"
        " scgi_temp_path @D/t5;\n server { listen 127.0.0.1:@P ssl; ssl_certificate"
        " @D/tls.crt; ssl_certificate_key @D/tls.key; auth_basic git; auth_basic_user_file"
        " @D/htpasswd;\n location /moved/ { return 302 https://127.0.0.1:@P/o.git/; }\n"
        " location / { fastcgi_pass unix:@D/fcgi; fastcgi_param SCRIPT_FILENAME"
        " /usr/lib/git-core/git-http-backend; fastcgi_param GIT_PROJECT_ROOT @D;"
        " fastcgi_param GIT_HTTP_EXPORT_ALL 1; fastcgi_param PATH_INFO $uri;"
        " fastcgi_param QUERY_STRING $query_string; fastcgi_param REQUEST_METHOD $request_method;"
        " fastcgi_param CONTENT_TYPE $content_type; fastcgi_param CONTENT_LENGTH $content_length;"
        " fastcgi_param REMOTE_USER $remote_user; fastcgi_param HTTP_GIT_PROTOCOL"
        " $http_git_protocol; fastcgi_param HTTP_CONTENT_ENCODING $http_content_encoding;"
        " fastcgi_param GIT_CONFIG_COUNT 1; fastcgi_param GIT_CONFIG_KEY_0 safe.directory;"
        " fastcgi_param GIT_CONFIG_VALUE_0 *; } } }\n",
        "");
    char *path = textf("%s/nginx.conf", host.dir), *sock = textf("unix:%s/fcgi", host.dir);
    write_file(path, conf, 0644);
    char *fcgi[] = {(char[]){"/usr/sbin/fcgiwrap"}, (char[]){"-s"}, sock, NULL};
    char *nginx[] = {(char[]){"/usr/sbin/nginx"}, (char[]){"-c"}, path, NULL};
    host.fcgi = serve(fcgi);
    host.nginx = serve(nginx);
    free(conf);
    free(path);
    free(sock);
}

char *key_json(const char *name)
{
    char *path = textf("%s/%s", host.dir, name), *text = read_file(path, NULL);
    cJSON *json = cJSON_CreateString(text);
    char *quoted = cJSON_PrintUnformatted(json);
    cJSON_Delete(json);
    free(path);
    free(text);
    return quoted;
}

bool githost_start(void)
{
    static const char *const needed[] = {"/usr/sbin/sshd", "/usr/sbin/nginx", "/usr/sbin/fcgiwrap"};
    for (size_t i = 0; i < COUNT(needed); i++)
        if (access(needed[i], X_OK) != 0 || geteuid() != 0) {
            print_message("SKIPPED: needs root and %s\n", needed[i]);
            return false;
        }
    host.dir = tmp_dir_new();
    host.remote = textf("%s/o.git", host.dir);
    host.ssh_port = port_reserve();
    host.web_port = port_reserve();
    free(sh("git init -q --bare -b main o.git; git -C o.git config http.receivepack true;"
            " git clone -q o.git w 2>/dev/null; cd w; git checkout -q -b main; mkdir d;"
            " for i in 1 2 3 4 5; do echo $i >f$i; done; echo in >d/in; ln -s /etc/passwd out;"
            " git add -A; git commit -qm one; git tag v1; git branch feature/x;"
            " git push -q origin main feature/x v1"));
    start_sshd();
    start_web();
    EVENTUALLY(60000, is_fcgi_listening() && githost_is_listening(host.web_port) &&
                          githost_is_listening(host.ssh_port));
    return true;
}

void githost_stop(void)
{
    const pid_t pids[] = {host.sshd, host.fcgi, host.nginx};
    int status;
    for (size_t i = 0; i < COUNT(pids); i++)
        if (pids[i]) {
            kill(pids[i], SIGTERM);
            if (!proc_wait(pids[i], 5000, &status))
                kill(pids[i], SIGKILL);
        }
    if (host.dir)
        tmp_dir_free(host.dir);
    free(host.remote);
}

struct runner *githost_runner(const char *more_allow)
{
    struct runner *runner = runner_new();
    unlink(runner->cli);
    write_file(runner->cli, githost_cli, 0755);
    char *allow = textf("localhost,file:%s%s", host.dir, more_allow);
    char *ca = textf("%s/tls.crt", host.dir);
    runner_set(runner, "GIT_ALLOW", allow);
    runner_set(runner, "SSL_CERT_FILE", ca);
    runner_set(runner, "GIT_TIMEOUT_SECONDS", "90");
    free(allow);
    free(ca);
    return runner;
}

void fetch_bundle(const struct runner *runner, const cJSON *commit)
{
    char *path = strdup(json_text(commit, "bundle"));
    struct reply *reply = runner_get(runner, path);
    assert_status(reply, 200);
    char *place = textf("%s/kept.bundle", host.dir);
    FILE *file = fopen(place, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(reply->body, 1, reply->body_size, file), reply->body_size);
    assert_int_equal(fclose(file), 0);
    reply_free(reply);
    free(place);
    free(path);
}

struct reply *good(struct reply *reply)
{
    if (!json_at(reply->json, "success") || !cJSON_IsTrue(json_at(reply->json, "success")))
        fail_msg("%s", reply->body);
    return reply;
}
