#include "internet.h"

#include "testing.h"

#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static const char hosts[] =
    "127.0.0.1 localhost\n127.0.0.1 platform.claude.com api.anthropic.com\n";

static bool raise_loopback(void)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool up = fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &request) == 0;
    close(fd);
    return up;
}

bool internet_leave(void)
{
    char path[] = "/tmp/cr-hosts.XXXXXX";
    if (unshare(CLONE_NEWNS | CLONE_NEWNET))
        return false;
    int fd = mkstemp(path);
    bool left = fd >= 0 && dprintf(fd, "%s", hosts) > 0 && fchmod(fd, 0644) == 0 &&
                mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
                mount(path, "/etc/hosts", NULL, MS_BIND, NULL) == 0 && raise_loopback();
    close(fd);
    unlink(path);
    return left;
}

static void shell(const char *dir, const char *script)
{
    char *argv[] = {(char[]){"/bin/bash"}, (char[]){"-ec"}, textf("cd '%s'\n%s", dir, script),
                    NULL};
    char *env[] = {(char[]){"PATH=/usr/bin:/bin"}, NULL};
    char *out = textf("%s/shell", dir);
    int status = -1;
    pid_t pid = proc_start(argv, env, out, out);
    assert_true(proc_wait(pid, 60000, &status));
    if (status != 0)
        fail_msg("certificates: %s", read_file(out, NULL));
    free(argv[2]);
    free(out);
}

static const char make_certificates[] =
    "new='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'\n"
    "openssl req -x509 $new -days 2 -subj '/CN=Test CA' -keyout ca.key -out ca.pem\n"
    "openssl req $new -subj /CN=platform.claude.com -keyout server.key -out server.csr\n"
    "echo subjectAltName=DNS:platform.claude.com,DNS:api.anthropic.com >names\n"
    "openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2"
    " -extfile names -out server.pem\n";

static struct internet *current; /* the stand-in that a failed test has left behind, with its
                                  * port */

struct internet *internet_new(void)
{
    internet_free(current);
    struct internet *internet = calloc(1, sizeof *internet);
    assert_non_null(internet);
    internet->dir = tmp_dir_new();
    internet->ca = textf("%s/ca.pem", internet->dir);
    shell(internet->dir, make_certificates);
    char *cert = textf("%s/server.pem", internet->dir);
    char *key = textf("%s/server.key", internet->dir);
    internet->oauth = token_server_tls_new(cert, key);
    current = internet;
    free(cert);
    free(key);
    return internet;
}

void internet_free(struct internet *internet)
{
    if (!internet)
        return;
    api_free(internet->oauth);
    tmp_dir_free(internet->dir);
    free(internet->ca);
    free(internet);
    current = NULL;
}

void internet_use(struct internet *internet, struct runner *runner)
{
    const char *cli = runner_real_cli();
    if (!cli) {
        runner_free(runner);
        SKIP_BECAUSE("the Claude Code CLI is not installed (runner/install-claude)");
    }
    char *url = textf("%s/v1/oauth/token", internet->oauth->base);
    runner_set(runner, "ANTHROPIC_API_KEY", NULL);
    runner_set(runner, "CLAUDE_BIN", cli);
    runner_set(runner, "NODE_EXTRA_CA_CERTS", internet->ca);
    runner_set(runner, "OAUTH_TOKEN_URL", url);
    free(url);
}

char *internet_agree(const struct internet *internet, const char *url)
{
    static const char *const sites[] = {"https://claude.com/cai/oauth/",
                                        "https://claude.ai/oauth/"};
    size_t site = strncmp(url, sites[0], strlen(sites[0])) == 0 ? 0 : 1;
    assert_memory_equal(url, sites[site], strlen(sites[site]));
    struct reply *reply =
        http_call(internet->oauth->base, "GET", strchr(url + strlen("https://"), '/'), NULL, NULL);
    assert_status(reply, 200);
    char *code = strdup(json_text(reply->json, "paste"));
    reply_free(reply);
    return code;
}
