#include "cloud_scene.h"

#define ACCOUNTS "/v1/projects/" CLOUD_PROJECT "/serviceAccounts/"

static bool exists(const char *path)
{
    struct reply *reply = ask("GET", path, NULL);
    bool is = reply->status == 200;
    reply_free(reply);
    return is;
}

/* ---- down ---- */

static void put_object(const char *name)
{
    char *path = textf("/upload/storage/v1/b/" BUCKET "/o?uploadType=media&name=%s", name);
    send("POST", path, "{}");
    free(path);
}

static void down_asks_and_removes_what_is_its_own(void **state)
{
    (void)state;
    assert_run("setup --vpc default/default", KEY, 0);
    send("POST", "/v1/projects/" CLOUD_PROJECT "/serviceAccounts", "{\"accountId\":\"somebody\"}");
    put_object("sessions%2Fa%2Fresult.json");
    forget_log();
    assert_run("down", "", 2);
    assert_said("--yes");
    assert_run("down --dry-run", "", 0);
    assert_said("job claude-runner: would be deleted");
    assert_int_equal(writes(), 0);
    put_object("mine.txt");
    forget_log();
    assert_run("down --yes", "", 1);
    assert_said("mine.txt");
    assert_int_equal(writes(), 0);
    assert_run("down --yes --force", "", 0);
    assert_said("--destroy-key");
    assert_false(exists("/storage/v1/b/" BUCKET));
    assert_false(exists("/v2/" JOB));
    assert_false(exists(ACCOUNTS HOME));
    assert_false(
        exists("/compute/v1/projects/" CLOUD_PROJECT "/global/firewalls/claude-runner-deny"));
    assert_true(exists(ACCOUNTS "somebody@" CLOUD_PROJECT ".iam.gserviceaccount.com"));
    assert_true(exists(ACCOUNTS CLOUD_ACCOUNT));
    assert_members("POST", ALL_POLICY, "roles/logging.logWriter", "");
    char *path = textf("%s/claude-runner-key.json", dir);
    assert_int_equal(file_size(path), -1);
    free(path);
    assert_run("down --yes", "", 0);
    assert_said("There is nothing to remove.");
    assert_run("setup", KEY, 0);
    assert_complete();
    assert_run("down --yes --destroy-key", "", 0);
    assert_run("setup", KEY, 1);
    assert_said("restore or enable its primary version");
}

/* At a terminal, where somebody types this: the exit status. */
static int run_at_terminal(const char *options, const char *typed)
{
    char *out = output_file();
    char *command = textf("cd '%s' && echo %s | script -qec '%s cloud %s' "
                          "/dev/null >'%s' 2>&1",
                          dir, typed, binary(), options, out);
    char *argv[] = {(char[]){"/bin/sh"}, (char[]){"-c"}, command, NULL};
    pid_t pid = proc_start(argv, admin->env, NULL, NULL);
    free(command);
    free(out);
    return end(pid);
}

static void down_takes_nothing_but_yes_for_a_yes(void **state)
{
    (void)state;
    static const char *const typed[] = {"", "y", "no", "YES"};
    assert_run("setup", KEY, 0);
    forget_log();
    for (size_t i = 0; i < COUNT(typed); i++) {
        assert_int_equal(run_at_terminal("down", typed[i]), 1);
        assert_said("Remove that from project " CLOUD_PROJECT "?");
        assert_said("nothing has been removed");
    }
    assert_int_equal(writes(), 0);
    assert_int_equal(run_at_terminal("down", "yes"), 0);
    assert_false(exists("/v2/" JOB));
    assert_false(exists("/storage/v1/b/" BUCKET));
}

static void down_leaves_what_was_there_before(void **state)
{
    (void)state;
    send("POST", "/v1/projects/" CLOUD_PROJECT "/services/storage.googleapis.com:enable", "{}");
    send("POST", "/storage/v1/b?project=" CLOUD_PROJECT,
         "{\"name\":\"" BUCKET "\",\"location\":\"" CLOUD_REGION "\"}");
    assert_run("setup", KEY, 0);
    assert_said("bucket " BUCKET ": changed: iamConfiguration, lifecycle");
    assert_run("down --yes", "", 0);
    assert_said("bucket " BUCKET ": was not made by set-up: it stays");
    assert_true(exists("/storage/v1/b/" BUCKET));
    assert_members("GET", "/storage/v1/b/" BUCKET "/iam", "roles/storage.objectUser", "");
}

/* ---- the network ---- */

static void lets_out_what_is_named_and_nothing_else(void **state)
{
    (void)state;
    assert_run("setup --vpc default/default --allow tcp:22 --allow udp:53@10.0.0.2/32", KEY, 0);
    struct reply *reply =
        look("/compute/v1/projects/" CLOUD_PROJECT "/global/firewalls/claude-runner-deny");
    assert_json_text(reply->json, "direction", "EGRESS");
    assert_json_text(reply->json, "denied.0.IPProtocol", "all");
    assert_json_text(reply->json, "destinationRanges.0", "0.0.0.0/0");
    assert_json_text(reply->json, "targetTags.0", "claude-runner");
    reply_free(reply);
    reply = look("/compute/v1/projects/" CLOUD_PROJECT "/global/firewalls/claude-runner-allow");
    assert_json_text(reply->json, "allowed.0.ports.0", "443");
    assert_json_text(reply->json, "allowed.1.ports.0", "22");
    reply_free(reply);
    reply = look("/compute/v1/projects/" CLOUD_PROJECT "/global/firewalls/claude-runner-allow-1");
    assert_json_text(reply->json, "destinationRanges.0", "10.0.0.2/32");
    reply_free(reply);
    reply = look("/v2/" JOB);
    assert_json_text(reply->json, "template.template.vpcAccess.egress", "ALL_TRAFFIC");
    assert_json_text(reply->json, "template.template.vpcAccess.networkInterfaces.0.tags.0",
                     "claude-runner");
    reply_free(reply);
    forget_log();
    assert_run("setup --vpc default/default --allow tcp:22 --allow udp:53@10.0.0.2/32", "", 0);
    assert_int_equal(writes(), 0);
    assert_run("setup --vpc default/default", "", 0);
    assert_said("firewall of default: changed: claude-runner-allow, without claude-runner-allow-1");
    assert_false(
        exists("/compute/v1/projects/" CLOUD_PROJECT "/global/firewalls/claude-runner-allow-1"));
    assert_run("setup --vpc default/nowhere", "", 1);
    assert_said("nowhere");
}

static void whoever_may_act_as_home_needs_no_key(void **state)
{
    (void)state;
    cloud_control(cloud, "{\"noKeys\":1}");
    assert_run("setup", KEY, 1);
    assert_said("a policy of the organisation allows no keys");
    assert_said("--impersonate user:YOU");
    assert_run("setup --impersonate serviceAccount:" CLOUD_ACCOUNT, "", 0);
    assert_said("GOOGLE_IMPERSONATE_SERVICE_ACCOUNT=" HOME);
    char *path = textf("%s/claude-runner-key.json", dir);
    assert_int_equal(file_size(path), -1);
    free(path);
    char *env = textf("%s/.env", dir);
    const char *from = strstr(said, "OVERFLOW=full"), *to = strstr(from, "\n\n");
    char *text = strndup(from, (size_t)(to - from));
    write_file(env, text, 0600);
    assert_run("check --home-only", "", 0);
    assert_said(HOME);
    free(text);
    free(env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(down_asks_and_removes_what_is_its_own), TEST(down_takes_nothing_but_yes_for_a_yes),
        TEST(down_leaves_what_was_there_before),     TEST(lets_out_what_is_named_and_nothing_else),
        TEST(whoever_may_act_as_home_needs_no_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
